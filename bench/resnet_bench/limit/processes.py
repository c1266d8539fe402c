"""CPU time and memory of a server's processes, from /proc."""

import os
import socket
from dataclasses import dataclass

from resnet_bench.process_tree import PROC, tree

TICKS = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """User and system seconds so far, and resident bytes, of one process."""

    parent: int
    cpu_seconds: float
    resident_bytes: int


def usage_of(root: int) -> dict[int, Usage]:
    """Each process below `root`, and `root` itself, by pid; empty if it does not run (or where there is no /proc)."""
    return {pid: usage for pid in tree(root) if (usage := _read(pid)) is not None}


def cpu_between(before: dict[int, Usage], after: dict[int, Usage]) -> dict[int, float]:
    """CPU seconds of each process between two looks; one that is new counts from its start."""
    return {pid: usage.cpu_seconds - (before[pid].cpu_seconds if pid in before else 0.0) for pid, usage in after.items()}


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _read(pid: int) -> Usage | None:
    try:
        # The command's name stands in brackets and may hold anything: what follows the last bracket is safe to split.
        fields = (PROC / str(pid) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:  # it ended meanwhile
        return None
    return Usage(int(fields[1]), (int(fields[11]) + int(fields[12])) / TICKS, int(fields[21]) * PAGE_BYTES)
