"""A batcher on a virtual clock with engines that take as long as a script says: hours of traffic in a moment, and always the same."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import Limits
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.chooser import ANY, Chooser, Demand
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.row_queue import NORMAL
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import Images, Outcome
from resnet_server.errors import ServingError


@dataclass(eq=False)
class Timer:
    callback: Callable[[], object] | None

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def run_until(self, end: float) -> None:
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, when)
            if timer.callback is not None:
                timer.callback()
        self.now = end


@dataclass(frozen=True)
class Stall:
    """From `start` on, for `seconds`, everything takes `times` as long; with `times` 0 nothing ends before the stall does."""

    start: float
    seconds: float
    times: float

    @property
    def end(self) -> float:
        return self.start + self.seconds


class SimulatedEngine:
    """Takes a + c*b for a batch, one at a time, and more while it is disturbed; logits are the first byte of each image.

    `times`: of each network, as multiples of the first.
    """

    depth = 2
    ready = True

    def __init__(self, clock: VirtualClock, fixed: float, per_row: float, stalls: Sequence[Stall], times: Sequence[float] = (1.0,)) -> None:
        self._clock, self._fixed, self._per_row, self._stalls, self._times = clock, fixed, per_row, stalls, times
        self._free_at = 0.0

    def watch(self, changed: Callable[[], None]) -> None:
        pass

    def kill(self) -> None:
        pass

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        logits = np.concatenate([part[:, 0, 0, :1] for part in parts]).astype(np.float32)
        begun = max(self._clock.now, self._free_at)
        usual = seconds = self._times[network] * (self._fixed + self._per_row * rows)
        for stall in self._stalls:
            if stall.start <= begun < stall.end:
                seconds = max(seconds, usual * stall.times if stall.times else stall.end - begun + usual)
        self._free_at = begun + seconds
        self._clock.call_at(self._free_at, lambda: done(Outcome(logits, seconds)))


@dataclass(eq=False)
class Caller:
    """Waits for one answer; lives on the one thread there is."""

    clock: VirtualClock
    then: Callable[["Caller"], None] = lambda _: None
    outcome: Answer | ServingError | None = None
    came: float = field(init=False)
    told: float = 0.0

    def __post_init__(self) -> None:
        self.came = self.clock.now

    @property
    def is_told(self) -> bool:
        return self.outcome is not None

    def settle(self, outcome: Answer | ServingError) -> None:
        self.outcome, self.told = outcome, self.clock.now
        self.clock.call_at(self.clock.now, lambda: self.then(self))

    def post(self, work: Callable[[], None]) -> None:
        work()

    def defer(self, work: Callable[[], None]) -> None:
        self.clock.call_at(self.clock.now, work)


@dataclass
class World:
    """One model, or with a `chooser` one group, on `engines` simulated engines; to be made on a running event loop.

    `times`: what the members of a group cost, as multiples of the cheapest, which `fixed` and `per_row` are of.
    """

    engines: int = 2
    fixed: float = 4e-3
    per_row: float = 4e-3
    planned: float = 1.0
    max_batch: int = 8
    max_queue: int = 256
    stalls: Sequence[Stall] = ()
    chooser: Chooser | None = None
    times: Sequence[float] = (1.0,)

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        engines = [SimulatedEngine(self.clock, self.fixed, self.per_row, self.stalls, self.times) for _ in range(self.engines)]
        cost = CostModel(self.planned * self.fixed, self.planned * self.per_row)
        limits = Limits(2 * self.max_batch, self.max_batch, self.max_queue, grain=2)
        self.batcher = Batcher(engines, limits, self.clock, Admission(cost, self.max_batch), chooser=self.chooser)

    def ask(
        self,
        rows: int = 1,
        seconds: float | None = None,
        priority: int = NORMAL,
        then: Callable[[Caller], None] | None = None,
        demand: Demand = ANY,
    ) -> Caller:
        """One request with a deadline in `seconds`; what is refused at the door is told at once."""
        caller = Caller(self.clock, then or (lambda _: None))
        deadline = None if seconds is None else self.clock.now + seconds
        try:
            self.batcher.enqueue(np.full((rows, 1, 1, 3), 7, np.uint8), deadline, priority, caller, demand)
        except ServingError as error:
            caller.settle(error)
        return caller

    def keep_asking(self, callers: int, until: float, priority: int = NORMAL, rows: int = 1) -> None:
        """`callers` without a deadline, each with its next request as soon as it has its answer, or a moment after a refusal."""

        def again(caller: Caller) -> None:
            if self.clock.now < until:
                pause = 0.0 if isinstance(caller.outcome, Answer) else 0.1
                self.clock.call_at(self.clock.now + pause, lambda: self.ask(rows, None, priority, again))

        for _ in range(callers):
            self.ask(rows, None, priority, again)

    def every(self, seconds: float, until: float, ask: Callable[[], Caller]) -> list[Caller]:
        """Open-loop requests."""
        made: list[Caller] = []

        def tick() -> None:
            if self.clock.now < until:
                made.append(ask())
                self.clock.call_at(self.clock.now + seconds, tick)

        tick()
        return made


def simulate(play: Callable[[], None]) -> None:
    """Run a play on an event loop, which only lends its thread."""

    async def main() -> None:
        play()

    asyncio.run(main())
