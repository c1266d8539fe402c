"""Deadlines at the door: when would the answer come, and is that in time?"""

import math
from collections.abc import Callable

from resnet_server.batching.cost_model import CostModel
from resnet_server.errors import LateError, UnreachableDeadlineError

LEARN = 0.05  # weight of the newest lag, where answers are few: about the last 20
SLOT_SECONDS, LEARN_SECONDS = 0.025, 0.25
"""Lags are averaged over a slot and learned with this time constant.

The correction changes which requests are admitted, and that shows only
when these are answered: a faster correction would swing between a full queue and an idle engine."""
OUTLIER, LEAST_DEVIATION = 4.0, 0.01  # a stall may raise the lag of a slot by so many deviations, which are so many seconds at least
MARGINS = 3.0  # mean deviations of the lag kept free before the deadline
FADE_SECONDS, FADE_BATCHES = 0.25, 10.0  # in which a lag falls to a third though nothing is answered: the longer of the two
SILENCE_SECONDS = 0.1  # without an answer, from which on it fades
PROBE_SECONDS = 1.0  # without a batch to learn from, after which an idle model tries whether its plan is still right
PROBE_TIMES = 4.0  # how far off the plan may be for that

Kind = tuple[int, bool]
"""A priority, and whether the request is larger than a batch: promises to one kind say nothing of another's."""


class Backlog:
    """Rows that would run before a new request, rows that run now, and engines that share them."""

    __slots__ = ("engines", "queued", "running")

    def __init__(self, queued: int, running: int, engines: int) -> None:
        self.queued = queued
        self.running = running
        self.engines = engines


class Lag:
    """How far promises of one kind were off recently, in seconds; what was learned fades with time where nothing is answered."""

    def __init__(self, fade: float) -> None:
        self._fade = fade
        self.seconds = self.deviation = 0.0
        self._at = self._slot = 0.0
        self._count, self._late, self._off = 0, 0.0, 0.0

    def learn(self, late: float, now: float) -> None:
        """One answer came `late` seconds after its promise (negative: before)."""
        left = self._left(now)
        self.seconds, self.deviation, self._at = left * self.seconds, left * self.deviation, now
        self._late, self._off = left * self._late, left * self._off  # of a slot that silence cut short
        late = min(late, self.seconds + OUTLIER * max(self.deviation, LEAST_DEVIATION))
        self._count += 1
        self._late += late
        self._off += abs(late - self.seconds)
        if now - self._slot >= SLOT_SECONDS:
            self._close_slot(now - self._slot)
            self._slot = now

    def allowance(self, now: float) -> float:
        """Seconds to add to a promise."""
        return self._left(now) * (max(0.0, self.seconds) + MARGINS * self.deviation)

    def _close_slot(self, seconds: float) -> None:
        weight = min(1 - math.exp(-seconds / LEARN_SECONDS), LEARN * self._count)
        self.seconds += weight * (self._late / self._count - self.seconds)
        self.deviation += weight * (self._off / self._count - self.deviation)
        self._count, self._late, self._off = 0, 0.0, 0.0

    def _left(self, now: float) -> float:
        return math.exp(min(0.0, self._at + SILENCE_SECONDS - now) / self._fade)


class Admission:
    """Predicts by the cost model, and corrects itself by how far its promises were off."""

    def __init__(self, cost: CostModel, max_batch: int) -> None:
        self.cost = cost
        self._max_batch = max_batch
        self._lags: dict[Kind, Lag] = {}
        self._learned_at: float | None = None

    def seconds(self, rows: int, backlog: Backlog, times: float = 1.0) -> float:
        """Until `rows` new rows are answered: what is ahead of them, and their own batches, shared by the engines.

        `times`: what their own batches cost as a multiple of what the model says.
        """
        return self.ahead(backlog) + times * self._own(rows, max(1, backlog.engines), self.cost.predict)

    def ahead(self, backlog: Backlog) -> float:
        """Seconds that the backlog needs: the half of what runs, and the queue, shared by the engines."""
        rows = backlog.queued + backlog.running / 2
        return rows * self.cost.predict(self._max_batch) / self._max_batch / max(1, backlog.engines)

    def check(self, rows: int, remaining: float, backlog: Backlog, kind: Kind, now: float, times: float = 1.0) -> float:
        """Return the seconds promised; raise UnreachableDeadlineError or LateError if that is beyond `remaining`.

        With nothing queued or running only the plan's own figures can refuse, and after a while without batches not even those: a
        model gone wrong must not lock the door for ever, since it learns from what it lets in.
        """
        idle = not backlog.queued and not backlog.running
        best = times * self.least(rows, backlog.engines)
        if best > remaining and not (idle and best <= PROBE_TIMES * remaining and self._is_due(now)):
            raise UnreachableDeadlineError(f"the deadline leaves {1e3 * remaining:.1f} ms; {rows} rows take about {1e3 * best:.1f} ms")
        promised = self.seconds(rows, backlog, times)
        expected = promised
        if backlog.queued:  # what is learned bounds the queue; it must not leave an engine without work
            expected += self._lag(kind).allowance(now)
        if expected > remaining and not idle:
            text = (
                f"the deadline leaves {1e3 * remaining:.1f} ms; with {backlog.queued} rows queued the answer takes {1e3 * expected:.1f} ms"
            )
            # The shortfall alone is often a millisecond, and by then the queue would be as long: a caller would ask over and over again.
            raise LateError(text, max(expected - remaining, self.ahead(backlog)))
        return promised

    def least(self, rows: int, engines: int) -> float:
        """Seconds for `rows` rows if all engines were idle."""
        return self._own(rows, max(1, engines), self.cost.at_best)

    def computed(self, rows: int, seconds: float, alone: bool, now: float) -> float:
        """Learn from one batch; what had been predicted for it."""
        self._learned_at = now
        predicted = self.cost.predict(rows)
        self.cost.observe(rows, seconds, alone)
        return predicted

    def kept(self, late: float, kind: Kind, now: float) -> None:
        """Learn from one answer that came `late` seconds after its promise (negative: before)."""
        self._lag(kind).learn(late, now)

    def _lag(self, kind: Kind) -> Lag:
        lag = self._lags.get(kind)
        if lag is None:
            lag = self._lags[kind] = Lag(max(FADE_SECONDS, FADE_BATCHES * self.cost.planned(1)))
        return lag

    def _is_due(self, now: float) -> bool:
        """Whether nothing was learned for a while; the clock starts at the first question."""
        if self._learned_at is None:
            self._learned_at = now
        if now - self._learned_at < PROBE_SECONDS:
            return False
        self._learned_at = now
        return True

    def _own(self, rows: int, engines: int, seconds: Callable[[float], float]) -> float:
        share = -(-rows // engines)
        batches, rest = divmod(share, self._max_batch)
        return batches * seconds(self._max_batch) + (seconds(rest) if rest else 0.0)
