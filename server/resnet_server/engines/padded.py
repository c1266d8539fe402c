"""Batches padded up to buckets, each with a session and buffers of its own."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import numpy as np

from resnet_server.engines.driver import DriverError
from resnet_server.engines.interface import Images, Logits
from resnet_server.engines.tactics import Bound, Change, Comparison, Opener, Tactic, Tuner

log = logging.getLogger(__name__)

SEARCH_SECONDS = 60.0
# While one thread captures a CUDA graph, most calls of CUDA from another thread fail and spoil it: one engine starts at a time.
_STARTING = threading.Lock()

LockPages = Callable[[Images], Callable[[], None]]


class PaddedCompute:
    """Runs batches of at most the largest bucket; the rows between a batch and its bucket are whatever lies in the slot.

    `changes` to the plainest tactic are tried when it warms up, and must compute the same within `tolerance`. `lock_pages`
    page-locks a slot and returns what undoes it.
    """

    def __init__(
        self, buckets: Sequence[int], open_bound: Opener, changes: Sequence[Change], tolerance: float, lock_pages: LockPages
    ) -> None:
        self._open = open_bound
        self._changes = changes
        self._tolerance = tolerance
        self._lock_pages = lock_pages
        self._locked: dict[int, tuple[Images, Callable[[], None]]] = {}
        weakref.finalize(self, _unlock_all, self._locked)
        with _STARTING:
            self._bound: dict[int, Bound] = {rows: open_bound(rows, Tactic()) for rows in buckets}
        self.tactics: dict[int, Tactic] = {}

    def warm_up(self, slot: Images) -> None:
        """Find the best tactic of every bucket, once; overwrites `slot` and leaves the sessions warm on the calling thread."""
        self.pin(slot)
        if self.tactics:
            for rows in self._bound:
                self.run(slot, rows)
            return
        noise = np.random.default_rng(0)
        slot[:] = noise.integers(0, 256, slot.shape, dtype=np.uint8)
        others: Images = noise.integers(0, 256, slot.shape, dtype=np.uint8)
        comparison = Comparison(slot, others, self._tolerance, SEARCH_SECONDS, time.perf_counter)
        with _STARTING:
            choices = Tuner(self._open, comparison).tune(self._bound, self._changes)
        for rows, choice in choices.items():
            self._bound[rows], self.tactics[rows] = choice.bound, choice.tactic
            log.info("tactics: batch %d runs with %s in %.3g ms", rows, choice.tactic, 1e3 * choice.seconds)

    def pin(self, slot: Images) -> None:
        """Page-lock a slot, once; where that fails, say so and copy from it as it is."""
        address = slot.ctypes.data
        if address in self._locked:
            return
        try:
            unlock = self._lock_pages(slot)
        except DriverError as error:
            log.warning("slots: %d bytes stay unlocked, copies to the GPU are slower: %s", slot.nbytes, error)
            unlock = _nothing
        self._locked[address] = (slot, unlock)  # holds the memory until it is unlocked

    def unpin(self, slot: Images) -> None:
        """Undo `pin` before the memory of a slot goes away."""
        _, unlock = self._locked.pop(slot.ctypes.data, (slot, _nothing))
        unlock()

    def run(self, slot: Images, rows: int) -> Logits:
        """Compute the first `rows` of UINT8 [>= bucket, h, w, 3] to FP32 [rows, classes]; raise EngineError if it fails."""
        bucket = next(bucket for bucket in self._bound if bucket >= rows)
        return self._bound[bucket].run(slot[:bucket])[:rows]


def _nothing() -> None:
    """What undoes a lock that was not got."""


def _unlock_all(locked: dict[int, tuple[Images, Callable[[], None]]]) -> None:
    for _, unlock in locked.values():
        unlock()
    locked.clear()
