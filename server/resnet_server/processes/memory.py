"""The C library's allocator, for a process that receives large messages.

As it comes, it asks the system for each large piece and gives it back at once: a message of 60 MiB is copied twice on its way to Python,
and the system clears 30,000 pages for that, with the interpreter's lock held. Two thirds of the 47 ms of processor time were those pages.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
MOST_KEPT = 512 << 20
"""Of the memory that is free: above it, the allocator gives back at once."""
GROWTH = 32 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")


def keep_large_memory() -> None:
    """Have large pieces of memory used again; to be called before there are threads. Does nothing where the C library is not GNU's."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, MOST_KEPT), (M_ARENA_MAX, 1)):
            library.mallopt(option, value)


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * PAGE
    except OSError:
        return 0


def trim() -> None:
    """Give all free memory back to the system: 30 ms and more after a flood of large messages, in which nobody else is given memory."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


class KeptMemory:
    """Gives back what the allocator keeps, once that is much: `look` from time to time, on any thread."""

    def __init__(self, measure: Callable[[], int] = resident, give_back: Callable[[], None] = trim) -> None:
        self._measure, self._give_back = measure, give_back
        self._settled = measure()

    def look(self) -> None:
        """Trim where the process has grown by GROWTH since it was last trimmed."""
        now = self._measure()
        if now > self._settled + GROWTH:
            self._give_back()
            self._settled = self._measure()
        else:
            self._settled = min(self._settled, now)
