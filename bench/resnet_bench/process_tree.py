"""CPU time and memory of a process and all its descendants, as Linux tells them under /proc."""

import os
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def tree(root: int) -> list[int]:
    """The process and its descendants; only the root where the system does not tell."""
    children = defaultdict(list)
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            children[int(_fields(int(folder.name))[1])].append(int(folder.name))
    found = [root]
    for process in found:  # grows as it goes
        found += children[process]
    return found


def cpu_seconds(root: int) -> float | None:
    """User and system time so far, with that of children that have ended; None where the system does not tell."""
    ticks = 0
    for process in tree(root):
        try:
            ticks += sum(int(field) for field in _fields(process)[11:15])
        except (OSError, IndexError, ValueError):
            if process == root:
                return None
    return ticks / os.sysconf("SC_CLK_TCK")


def peak_memory_bytes(root: int) -> int | None:
    """The sum of each process's highest resident memory so far; a page that several share counts in each.

    None where the system does not tell.
    """
    total = 0
    for process in tree(root):
        with suppress(OSError, ValueError, IndexError):
            total += _peak_bytes(process)
    return total or None


def _fields(process: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on: [1] is the parent, [11:15] are CPU times in ticks."""
    return (PROC / str(process) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()


def _peak_bytes(process: int) -> int:
    for line in (PROC / str(process) / "status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
