"""Timers of a batcher, which may be set from any thread: one alarm on the event loop, and the deadlines it rings for."""

import asyncio
import heapq
import itertools
import threading
from collections.abc import Callable
from typing import Protocol

from resnet_server.batching.ticket import Ticket

NEVER = float("inf")
STEP = 5e-4  # seconds: uvloop's timers ring to the nearest millisecond
SLACK = 64


class TimerHandle(Protocol):
    """What `Clock.call_at` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """Time in seconds, and callbacks at a time; an asyncio event loop is one."""

    def time(self) -> float:
        """Now."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> TimerHandle:
        """Call `callback` at time `when`; on the event loop only."""


class Wakeup:
    """Rings at the earliest time it was set to, and then has to be set again. Whoever sets it holds a lock that `ring` takes, too."""

    def __init__(self, clock: Clock, ring: Callable[[], None]) -> None:
        self._clock = clock
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._at = NEVER
        self._timer: TimerHandle | None = None

    def set(self, when: float) -> None:
        """Ring at `when` or before."""
        if when >= self._at:
            return
        self._at = when
        if threading.get_ident() == self._thread_id:
            self._wind()
        else:
            self._loop.call_soon_threadsafe(self._wind)

    def cancel(self) -> None:
        """Never ring again, unless set; on the event loop."""
        self._at = NEVER
        self._wind()

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if self._at == NEVER else self._clock.call_at(self._at, self._rung)

    def _rung(self) -> None:
        self._timer, self._at = None, NEVER  # a thread that sets it right now is not lost: `ring` looks at all there is, under the lock
        self._ring()


class Deadlines:
    """Tickets in the order of their deadlines; those that are over are dropped when half of what is held are such."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Ticket]] = []
        self._order = itertools.count()
        self._open = 0

    def __len__(self) -> int:
        """Tickets held, with those that are over."""
        return len(self._heap)

    def add(self, ticket: Ticket) -> None:
        """Hold a ticket that has a deadline."""
        if len(self._heap) > 2 * self._open + SLACK:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapq.heapify(self._heap)
        assert ticket.deadline is not None  # noqa: S101  # the caller has looked
        heapq.heappush(self._heap, (ticket.deadline, next(self._order), ticket))
        self._open += 1

    def forget(self) -> None:
        """A ticket that was added is over."""
        self._open -= 1

    @property
    def earliest(self) -> float:
        """The first deadline of a ticket that is not over."""
        while self._heap and self._heap[0][2].over:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else NEVER

    def passed(self, now: float) -> list[Ticket]:
        """Remove and return the tickets whose deadline has come."""
        found = []
        while self.earliest <= now + STEP:
            found.append(heapq.heappop(self._heap)[2])
        return found
