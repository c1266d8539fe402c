"""Whether a measurement was left alone: the share of processor time that this process got of what it wanted, and the host's steal."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

TASKS = Path("/proc/self/task")
STAT = Path("/proc/stat")
BUSY_FIELDS, IDLE_FIELDS, STEAL_FIELD = (0, 1, 2, 5, 6), (3, 4), 7  # of a cpu's line in /proc/stat, after its name
NANOSECONDS = 1e9


@dataclass(frozen=True)
class ProcessorTime:
    """Seconds since the start: this process ran, and was ready to run but waited; ticks of its cores: busy, idle and stolen by the host."""

    ran: float
    waited: float
    busy: int
    idle: int
    stolen: int

    def share_since(self, before: "ProcessorTime") -> float:
        """Of the time that it wanted, what this process got; threads that wait for each other do not count."""
        ran, waited = self.ran - before.ran, max(0.0, self.waited - before.waited)  # what a thread waited that has ended is not told
        got = ran / (ran + waited) if ran + waited > 0 else 1.0
        return got * (1 - self._stolen_share(before))

    def idle_since(self, before: "ProcessorTime") -> float:
        """The share of time that its cores had nothing to do."""
        idle = self.idle - before.idle
        total = idle + self.busy - before.busy + self.stolen - before.stolen
        return idle / total if total > 0 else 1.0

    def _stolen_share(self, before: "ProcessorTime") -> float:
        stolen = self.stolen - before.stolen
        used = stolen + self.busy - before.busy
        return stolen / used if used > 0 else 0.0


def processor_time() -> ProcessorTime:
    """As of now; where the system does not tell, nothing ever waited and all is idle."""
    ran, waited = time.process_time(), 0.0
    for task in _tasks():
        try:
            fields = (task / "schedstat").read_text(encoding="ascii").split()
            waited += int(fields[1]) / NANOSECONDS
        except (OSError, ValueError, IndexError):  # a thread that has just ended, or a kernel without these figures
            continue
    return ProcessorTime(ran, waited, *_ticks())


def _tasks() -> list[Path]:
    try:
        return list(TASKS.iterdir())
    except OSError:
        return []


def _ticks() -> tuple[int, int, int]:
    names = {f"cpu{core}" for core in os.sched_getaffinity(0)} if hasattr(os, "sched_getaffinity") else set()
    busy = idle = stolen = 0
    try:
        for line in STAT.read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name in names:
                ticks = [int(field) for field in fields]
                busy += sum(ticks[field] for field in BUSY_FIELDS)
                idle += sum(ticks[field] for field in IDLE_FIELDS)
                stolen += ticks[STEAL_FIELD]
    except (OSError, ValueError, IndexError):
        return 0, 0, 0
    return busy, idle, stolen
