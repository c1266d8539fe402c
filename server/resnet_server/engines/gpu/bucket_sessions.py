"""Batches padded up to buckets, each with a session and buffers of its own."""

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_server.engines.api import Images, Logits
from resnet_server.engines.gpu.driver import DriverError
from resnet_server.engines.gpu.tuning import WARM_UPS, Bound, Change, Comparison, Opener, Tactic, Tuner
from resnet_server.engines.gpu.tuning_cache import TuningCache
from resnet_server.errors import EngineError

log = logging.getLogger(__name__)

# While one thread captures a CUDA graph, most calls of CUDA from another thread fail and spoil it: one engine starts at a time.
_STARTING = threading.Lock()

LockPages = Callable[[Images], Callable[[], None]]


@dataclass(frozen=True)
class Search:
    """`changes` to the plainest tactic are tried for `seconds`, and must compute the same within `tolerance`."""

    changes: Sequence[Change]
    tolerance: float
    seconds: float
    memo: TuningCache


class BucketSessions:
    """Runs batches of at most the largest bucket; the rows between a batch and its bucket are whatever lies in the slot.

    `search` finds the best tactic when it warms up. `lock_pages` page-locks a slot and returns what undoes it.
    """

    def __init__(self, buckets: tuple[int, ...], open_bound: Opener, search: Search, lock_pages: LockPages) -> None:
        self._open = open_bound
        self._search = search
        self._lock_pages = lock_pages
        self._locked: dict[int, tuple[Images, Callable[[], None]]] = {}
        weakref.finalize(self, _unlock_all, self._locked)
        with _STARTING:
            self._bound: dict[int, Bound] = {rows: open_bound(rows, Tactic()) for rows in buckets}
        self.tactics: dict[int, Tactic] = {}

    def warm_up(self, slot: Images) -> None:
        """Find the best tactic of every bucket, once; overwrites `slot` and leaves the sessions warm on the calling thread."""
        self.pin(slot)
        if not self.tactics:
            with _STARTING:
                if not self._remember():
                    self._find(slot)
                self._run_all(slot)
            for rows, tactic in self.tactics.items():
                log.info("tactics: batch %d runs with %s", rows, tactic)
        else:
            self._run_all(slot)

    def _remember(self) -> bool:
        """Open what an earlier search found; False if there is nothing, or it does not open any more."""
        tactics = self._search.memo.load(tuple(self._bound))
        try:
            bound = {rows: self._open(rows, tactic) for rows, tactic in tactics.items() if tactic != Tactic()}
        except EngineError as error:
            log.warning("tactics: what was found before does not open, searching again: %s", error)
            return False
        self._bound.update(bound)
        self.tactics = tactics
        return bool(tactics)

    def _find(self, slot: Images) -> None:
        search, noise = self._search, np.random.default_rng(0)
        slot[:] = noise.integers(0, 256, slot.shape, dtype=np.uint8)
        others: Images = noise.integers(0, 256, slot.shape, dtype=np.uint8)
        comparison = Comparison(slot, others, search.tolerance, search.seconds, time.perf_counter)
        choices = Tuner(self._open, comparison).tune(self._bound, search.changes)
        self._bound.update({rows: choice.bound for rows, choice in choices.items()})
        self.tactics = {rows: choice.tactic for rows, choice in choices.items()}
        search.memo.save(self.tactics)

    def _run_all(self, slot: Images) -> None:
        for rows in self._bound:
            for _ in range(WARM_UPS):
                self.run(slot, rows)

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
