"""How a process stands as the system sees it: stopped by somebody, in want of a processor, or waiting."""

import os
from dataclasses import dataclass
from pathlib import Path

STOPPED, RUNNABLE = b"T", b"R"
TICKS = 100.0  # a second, in /proc on every Linux


@dataclass(frozen=True)
class Standing:
    """`stopped`: by a signal, so that it does nothing until another one; a debugger's stop is none.

    `runnable`: a thread of it computes, or would if it had a processor. `seconds`: computed so far.
    """

    stopped: bool
    runnable: bool
    seconds: float


def standing_of(pid: int) -> Standing | None:
    """Of a process; None where the system does not say, as only Linux does, or there is none."""
    try:
        state, seconds = _read(Path(f"/proc/{pid}/stat"))
        threads = {state} if state in (STOPPED, RUNNABLE) else _states_of_threads(pid)
    except (OSError, ValueError, IndexError):
        return None
    return Standing(state == STOPPED, RUNNABLE in threads, seconds)


def is_stopped(pid: int) -> bool:
    """Whether a signal has stopped this child of ours; False where there is none, as of pid 0."""
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return False


def _states_of_threads(pid: int) -> set[bytes]:
    return {_read(folder / "stat")[0] for folder in Path(f"/proc/{pid}/task").iterdir()}


def _read(path: Path) -> tuple[bytes, float]:
    fields = path.read_bytes().rpartition(b")")[2].split()  # a name may hold anything, brackets and blanks included
    return fields[0], (int(fields[11]) + int(fields[12])) / TICKS
