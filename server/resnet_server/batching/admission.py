"""Deadlines at the door: when would the answer come, and is that in time?"""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_server.batching.cost_model import CostModel
from resnet_server.errors import LateError, UnreachableDeadlineError

LEARN = 0.05  # weight of the newest lag: about the last 20 answers
MARGINS = 2.0  # mean deviations of the lag kept free before the deadline


@dataclass(frozen=True)
class Backlog:
    """Rows that would run before a new request, rows that run now, and engines that share them."""

    queued: int
    running: int
    engines: int


class Admission:
    """Predicts by the cost model, and corrects itself by how far its promises were off."""

    def __init__(self, cost: CostModel, max_batch: int) -> None:
        self.cost = cost
        self._max_batch = max_batch
        self._lag = 0.0
        self._deviation = 0.0

    def seconds(self, rows: int, backlog: Backlog) -> float:
        """Until `rows` new rows are answered: the half of what runs, the queue, and their own batches, shared by the engines."""
        engines = max(1, backlog.engines)
        ahead = (backlog.queued + backlog.running / 2) * self.cost.predict(self._max_batch) / self._max_batch
        return ahead / engines + self._own(rows, engines, self.cost.predict)

    def check(self, rows: int, remaining: float, backlog: Backlog) -> float:
        """Return the seconds promised; raise UnreachableDeadlineError or LateError if that is beyond `remaining`.

        With nothing queued or running only the plan's own figures can refuse: a model gone wrong must not lock the door
        for ever, since it learns from what it lets in.
        """
        best = self.least(rows, backlog.engines)
        if best > remaining:
            raise UnreachableDeadlineError(f"the deadline leaves {1e3 * remaining:.1f} ms; {rows} rows take about {1e3 * best:.1f} ms")
        promised = self.seconds(rows, backlog)
        expected = promised + max(0.0, self._lag) + MARGINS * self._deviation
        if expected > remaining and (backlog.queued or backlog.running):
            text = (
                f"the deadline leaves {1e3 * remaining:.1f} ms; with {backlog.queued} rows queued the answer takes {1e3 * expected:.1f} ms"
            )
            raise LateError(text, expected - remaining)
        return promised

    def least(self, rows: int, engines: int) -> float:
        """Seconds for `rows` rows if all engines were idle."""
        return self._own(rows, max(1, engines), self.cost.at_best)

    def kept(self, late: float) -> None:
        """Learn from one answer that came `late` seconds after its promise (negative: before)."""
        self._lag += LEARN * (late - self._lag)
        self._deviation += LEARN * (abs(late - self._lag) - self._deviation)

    def _own(self, rows: int, engines: int, seconds: Callable[[float], float]) -> float:
        share = -(-rows // engines)
        batches, rest = divmod(share, self._max_batch)
        return batches * seconds(self._max_batch) + (seconds(rest) if rest else 0.0)
