"""A server of one queue in virtual time: what a way to choose networks makes of a trace, in a second for some hundred thousand calls.

Engines, batches and the door are those of the real server in their simplest form: an idle engine takes what waits, earliest
deadline first, up to `max_batch` rows; a request that even the cheapest network cannot answer in time is refused at once.
"""

import heapq
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_server.routing.member import Member
from resnet_server.routing.policy import DepthPolicy, Waiting

Times = NDArray[np.float64]


@dataclass(frozen=True)
class Workshop:
    """`engines`, rows of a batch, seconds from arrival to deadline, and seconds between a batch's end and its answers.

    `serving`: seconds of an engine that each row costs beside its batch, on whichever network.
    """

    engines: int
    max_batch: int
    deadline: float
    way_back: float = 0.0005
    serving: float = 0.0

    def seconds(self, member: Member, rows: int) -> float:
        """For a batch on one engine, all told."""
        return member.seconds(rows) + self.serving * rows

    def capacity(self, member: Member) -> float:
        """Images a second in full batches on all engines."""
        return self.engines * self.max_batch / self.seconds(member, self.max_batch)


class Chooser(Protocol):
    """A way to choose the network of each batch."""

    def arrived(self, now: float, rows: int) -> None:
        """Rows came."""

    def choose(self, now: float, waiting: Waiting) -> Member:
        """The network of the batch that leaves now."""

    def ended(self, member: Member, rows: int, seconds: float, computing: float, pressed: bool) -> None:
        """A batch held an engine for so many `seconds`, of which it was `computing`; `pressed`: while others waited."""


class ByPolicy:
    """The server's own policy; `level_changes` counts those of its level."""

    def __init__(self, policy: DepthPolicy) -> None:
        self._policy = policy
        self.level_changes = 0

    def arrived(self, now: float, rows: int) -> None:
        """See `Chooser`."""
        self._policy.arrived(now, rows)

    def choose(self, now: float, waiting: Waiting) -> Member:
        """See `Chooser`."""
        before = self._policy.level
        member = self._policy.choose(now, waiting).member
        self.level_changes += self._policy.level != before
        return member

    def ended(self, member: Member, rows: int, seconds: float, computing: float, pressed: bool) -> None:
        """See `Chooser`."""
        if pressed:
            self._policy.costs.held(member, rows, seconds)
        else:
            self._policy.costs.computed(member, rows, computing)


@dataclass
class Result:
    """Of one trace: calls offered, answered in time and refused; `by_member` counts the answers in time; `switches` of network.

    `answered_by`: of each call in order, the name of the member that answered in time, empty where none did.
    """

    offered: int
    in_time: int = 0
    refused: int = 0
    late: int = 0
    batches: int = 0
    switches: int = 0
    seconds: float = 0.0
    by_member: dict[str, int] = field(default_factory=dict)
    accuracy_sum: float = 0.0
    answered_by: list[str] = field(default_factory=list)

    @property
    def attainment(self) -> float:
        """Share of all offered that was answered in time, 0..1."""
        return self.in_time / max(1, self.offered)

    @property
    def accuracy(self) -> float:
        """Expected, of those answered in time, 0..1."""
        return self.accuracy_sum / max(1, self.in_time)

    @property
    def switches_per_second(self) -> float:
        """Batches that another network answered than the one before."""
        return self.switches / self.seconds if self.seconds else 0.0


class Simulation:
    """One run of a trace of single images; `noise`: standard deviation of the logarithm of batch times, drawn from `seed`."""

    def __init__(self, workshop: Workshop, chooser: Chooser, cheapest: Member, noise: float = 0.0, seed: int = 0) -> None:
        self._workshop = workshop
        self._chooser = chooser
        self._noise = noise
        self._random = np.random.default_rng(seed)
        self._last: Member | None = None
        self._order = deque[int]()
        self._running: list[tuple[float, int, Member, int, float, float, bool]] = []
        self._per_row = 1 / workshop.capacity(cheapest)
        self._least = workshop.seconds(cheapest, 1) + workshop.way_back

    def run(self, arrivals: Times) -> Result:
        """`arrivals`: seconds, ascending. All have the same time to their deadline, so that arrival order is deadline order."""
        work, result, times = self._workshop, Result(len(arrivals), answered_by=[""] * len(arrivals)), arrivals.tolist()
        free = [0.0] * work.engines
        self._order = deque[int]()  # of those that wait, by their number
        self._running = []
        waiting: deque[float] = deque()
        come, count = 0, len(times)
        while waiting or come < count:
            now = max(free[0], waiting[0] if waiting else times[come])
            upto = bisect_right(times, now, come)
            if upto > come:
                self._arrive(times[come:upto], come, free[0], waiting, result)
                come = upto
            self._drop_late(waiting, now, result)
            if waiting:
                self._start(waiting, now, free, result)
        result.seconds = times[-1] - times[0] if times else 0.0
        return result

    def _arrive(self, times: list[float], first: int, free_at: float, waiting: deque[float], result: Result) -> None:
        """Take in what comes before the next engine is free, in order; refuse what even the cheapest network could not answer in time."""
        self._chooser.arrived(times[-1], len(times))
        for number, at in enumerate(times, first):
            begins = max(0.0, free_at - at) + len(waiting) * self._per_row
            if begins + self._least > self._workshop.deadline:
                result.refused += 1
            else:
                waiting.append(at)
                self._order.append(number)

    def _drop_late(self, waiting: deque[float], now: float, result: Result) -> None:
        too_late = now + self._least - self._workshop.deadline
        while waiting and waiting[0] < too_late:
            waiting.popleft()
            self._order.popleft()
            result.late += 1

    def _start(self, waiting: deque[float], now: float, free: list[float], result: Result) -> None:
        work = self._workshop
        queued = len(waiting)
        rows = min(work.max_batch, -(-queued // work.engines))
        left = work.deadline - now - work.way_back
        while self._running and self._running[0][0] <= now:
            self._chooser.ended(*heapq.heappop(self._running)[2:])
        member = self._chooser.choose(now, Waiting(rows, queued - rows, waiting[0] + left, waiting[-1] + left, work.engines, calls=rows))
        computing = member.seconds(rows) * (float(np.exp(self._random.normal(0.0, self._noise))) if self._noise else 1.0)
        seconds = computing + work.serving * rows
        heapq.heapreplace(free, now + seconds)
        heapq.heappush(self._running, (now + seconds, result.batches, member, rows, seconds, computing, queued > rows))
        missed = now + seconds + work.way_back - work.deadline
        in_time, name = 0, str(member)
        for _ in range(rows):
            number = self._order.popleft()
            if waiting.popleft() >= missed:
                result.answered_by[number] = name
                in_time += 1
        self._count(result, member, rows, in_time)

    def _count(self, result: Result, member: Member, rows: int, in_time: int) -> None:
        result.batches += 1
        result.switches += self._last is not None and member is not self._last
        self._last = member
        result.in_time += in_time
        result.late += rows - in_time
        result.accuracy_sum += member.accuracy * in_time
        name = str(member)
        result.by_member[name] = result.by_member.get(name, 0) + in_time


class Fixed:
    """Always the same network."""

    def __init__(self, member: Member) -> None:
        self._member = member

    def arrived(self, now: float, rows: int) -> None:
        """See `Chooser`."""

    def choose(self, now: float, waiting: Waiting) -> Member:
        """See `Chooser`."""
        return self._member

    def ended(self, member: Member, rows: int, seconds: float, computing: float, pressed: bool) -> None:
        """See `Chooser`."""


class EverySecond:
    """The deepest network for the load of the last whole second, as systems that reconfigure from time to time do (InfAdapter, 2023)."""

    def __init__(self, members: Sequence[Member], workshop: Workshop, load: float = 0.85) -> None:
        self._rates = [load * workshop.capacity(member) for member in members]
        self._members = members
        self._count = 0
        self._until = 1.0
        self._member = members[-1]

    def arrived(self, now: float, rows: int) -> None:
        """See `Chooser`."""
        if now >= self._until:
            fitting = [member for member, rate in zip(self._members, self._rates, strict=True) if rate >= self._count]
            self._member = fitting[-1] if fitting else self._members[0]
            self._count, self._until = 0, float(int(now) + 1)
        self._count += rows

    def choose(self, now: float, waiting: Waiting) -> Member:
        """See `Chooser`."""
        return self._member

    def ended(self, member: Member, rows: int, seconds: float, computing: float, pressed: bool) -> None:
        """See `Chooser`."""
