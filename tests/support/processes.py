"""Processes of a running server, for tests that kill them."""

import os
import selectors
from contextlib import suppress
from pathlib import Path

from serving import RunningServer

END_SECONDS = 10
SHARED = "/dev/shm"  # noqa: S108  # where named memory is


def children(parent: int, module: str) -> list[int]:
    """Process ids of a process's children that run `module`."""
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in pids if module.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()]


def engines_of(server: RunningServer) -> list[int]:
    return children(server.process.pid, "resnet_server.engines.process.worker")


def front_ends_of(server: RunningServer) -> list[int]:
    return children(server.process.pid, "resnet_server.frontends.process")


def wait_for_end(pid: int) -> None:
    """Return once the process has ended; fail after END_SECONDS."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            assert selector.select(END_SECONDS), f"process {pid} outlived its server"
    finally:
        os.close(handle)


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process has started, and that those have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in children for each in (child, *descendants(child))]


def proportional_bytes(pid: int) -> int:
    """Memory of a process and of all that it has started; what they share is counted once."""
    total = 0
    for each in (pid, *descendants(pid)):
        with suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def processor_seconds(pid: int) -> float:
    """Computed by a process so far; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shared_memory_in_use() -> set[Path]:
    """Named memory of this machine that some process has mapped or open."""
    used: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended, or somebody else's
            lines = (process / "maps").read_text().splitlines()
            used |= {Path(line.split(maxsplit=5)[5]) for line in lines if SHARED in line}
            used |= {path.readlink() for path in (process / "fd").iterdir()}
    return used


def left_behind(before: set[Path]) -> set[Path]:
    """Named memory that is new since `before` and that nobody uses; other tests' processes have theirs meanwhile."""
    return {path for path in set(Path(SHARED).iterdir()) - before if path not in shared_memory_in_use() and path.exists()}
