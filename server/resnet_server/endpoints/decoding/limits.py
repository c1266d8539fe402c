"""Bounds that a decoder's process lays upon itself; the kernel keeps them, whatever library the process is in."""

import contextlib
import resource
import signal
from pathlib import Path

QUICK_WORK = 4_000_000
"""Pixels of an image for the quick lane: some 40 ms."""
QUICK_BYTES = 64 << 20
SLACK_BYTES = 32 << 20  # beside the pixels: what Python and the libraries take for themselves
QUICK_SECONDS, SLOW_SECONDS = 0.25, 10.0
"""Of processor time for a task of each lane; wall time would punish an image for its neighbours."""
DATA_SIZE = "VmData:"


def limit_time(seconds: float) -> None:
    """End this process when it has computed for too long from now on."""
    signal.setitimer(signal.ITIMER_PROF, seconds)


def limit_memory(count: int) -> None:
    """Let this process have `count` bytes more than it has, and no more: what asks for more gets MemoryError."""
    with contextlib.suppress(OSError, ValueError, StopIteration):  # only Linux reports this, and only Linux enforces the limit
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        data = next(int(line.split()[1]) for line in lines if line.startswith(DATA_SIZE)) << 10
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(resource.RLIMIT_DATA, (data + count + SLACK_BYTES, hard))
