"""How many replicas a forecast needs: from what one was measured to do, to a fleet that holds a latency objective, and its cost.

An engine computes b rows in a + c*b seconds, and takes all that wait, B at most, whenever it is idle. At `rate` rows a second a batch holds
b = rate * (a + c*b) rows on average. A large batch lasts long, so the next is large, too: with r = rate * c the variance is b / (1 - r*r),
that of an autoregressive sequence with Poisson noise, and 99 % of the batches hold b + 2.33 * sqrt(b / (1 - r*r)) rows at most. Who
arrives waits for the batch that runs and then is in the next: two such batches bound the latency.
tests/unit/bench/test_fleet.py simulates it.
"""

import math
from dataclasses import dataclass

QUANTILE = 2.326  # of the normal distribution at 99 %


@dataclass(frozen=True)
class Engine:
    """Seconds of a batch: `fixed` + `per_row` * rows, for `batch` rows at most."""

    fixed: float
    per_row: float
    batch: int

    @classmethod
    def measured(cls, first: float, largest: float, batch: int) -> "Engine":
        """From the seconds of one row and those of `batch` rows; raises ValueError where more rows took no longer."""
        if batch == 1:
            return cls(0.0, first, 1)
        if largest <= first:
            raise ValueError(f"{batch} rows took {largest} s, one row {first} s; expected more rows to take longer")
        per_row = min(largest / batch, (largest - first) / (batch - 1))
        return cls(max(0.0, first - per_row), per_row, batch)

    def seconds(self, rows: float) -> float:
        """Of a batch of `rows`."""
        return self.fixed + self.per_row * rows

    @property
    def most(self) -> float:
        """Rows a second when every batch is full."""
        return self.batch / self.seconds(self.batch)

    def latency(self, rate: float) -> float:
        """Seconds within which 99 % of the rows are answered at `rate` rows a second; infinite where it cannot keep up."""
        if rate >= 1 / self.per_row:
            return math.inf
        memory = rate * self.per_row
        mean = rate * self.fixed / (1 - memory)
        rows = max(1.0, mean + QUANTILE * math.sqrt(mean / (1 - memory * memory)))
        return 2 * self.seconds(rows) if rows <= self.batch else math.inf

    def rate_within(self, objective: float) -> float:
        """Most rows a second whose latency keeps the objective; 0 where not even two single rows do."""
        if 2 * self.seconds(1) > objective:
            return 0.0
        low, high = 0.0, self.most
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if self.latency(middle) <= objective else (low, middle)
        return low


@dataclass(frozen=True)
class Fleet:
    """Replicas, of which `spare` may be gone; rows a second of each at the peak; cost in the price's unit, an hour."""

    replicas: int
    spare: int
    rate: float
    utilisation: float
    latency: float
    cost: float


def plan_fleet(
    engine: Engine, engines: int, peak: float, objective: float, spare: int = 1, price: float = 0.0, most_calls: float = math.inf
) -> Fleet:
    """The smallest fleet of replicas with `engines` engines each that answers `peak` rows a second within `objective` seconds (99 %).

    It keeps that with `spare` replicas gone. `most_calls` is what a replica takes in a second, whatever it computes; calls have one row.
    Raises ValueError where no number of replicas can.
    """
    within = engine.rate_within(objective)
    if within <= 0:
        raise ValueError(f"objective: {objective} s; expected {2 * engine.seconds(1):.4g} s or more, what two single rows take")
    needed = max(1, math.ceil(peak / min(within * engines, most_calls)))
    rate = peak / needed / engines
    replicas = needed + spare
    return Fleet(replicas, spare, peak / replicas, rate / engine.most, engine.latency(rate), replicas * price)
