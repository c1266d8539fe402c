"""The common counts of all front ends in memory that they share: each writes its own cells, and reads everybody's."""

import mmap
import os

from resnet_server.batching.tally import COUNTS

BYTES = 8


def allocate_tally(front_ends: int) -> int:
    """A file descriptor of anonymous memory for one model, all counts 0; OSError where there is none to be had."""
    fd = os.memfd_create("resnet-tally")
    os.ftruncate(fd, BYTES * COUNTS * front_ends)
    return fd


class TallyMemory:
    """One model's memory over a descriptor, which it does not keep."""

    def __init__(self, fd: int, front_ends: int) -> None:
        self._front_ends = front_ends
        self._cells = memoryview(mmap.mmap(fd, 0)).cast("q")

    def forget(self, front_end: int) -> None:
        """One of them has died: what it counted is no more."""
        for cell in range(front_end, len(self._cells), self._front_ends):
            self._cells[cell] = 0

    def of(self, front_end: int) -> "SharedTally":
        """One front end's `Tally`."""
        return SharedTally(self._cells, front_end, self._front_ends)


class SharedTally:
    """See `Tally`; a cell has one writer and is written at once, so there is nothing to lock."""

    def __init__(self, cells: "memoryview[int]", front_end: int, front_ends: int) -> None:
        self._cells = cells
        self._own, self._front_ends = front_end, front_ends

    def tell(self, count: int, value: int) -> None:
        """See `Tally.tell`."""
        self._cells[count * self._front_ends + self._own] = value

    def others(self, count: int) -> int:
        """See `Tally.others`."""
        begin = count * self._front_ends
        return sum(self._cells[begin : begin + self._front_ends]) - self._cells[begin + self._own]
