"""What a comparison measures, and about how long it takes."""

import math
from dataclasses import dataclass

from resnet_bench.load.spec import Arrivals

MIN_CALLS = 100  # a p99 of fewer says nothing
LONGEST_SECONDS = 20.0
WARM_UP_SECONDS = 0.5
SATURATING_ROWS, SATURATING_SECONDS = 128, 0.5  # in flight: at most so many images, and on each core about so much computing
RAW_TRIALS_SECONDS = 12.0
PROBES_FIRST, PROBES_LATER = 5, 4
OVERHEAD_SECONDS = 0.3  # of a run, beside its warm-up and counted time


@dataclass(frozen=True)
class Plan:
    """`repeats` of each measurement of `seconds`; SLO and deadline in seconds.

    With `rates` (calls a second) or `concurrencies` these loads are measured, each with each number of `rows`; without, the
    capacity within the SLO is searched for, and 50 % and 80 % of it are measured.
    """

    rows: tuple[int, ...]
    repeats: int
    seconds: float
    slo: float
    cores: int
    rates: tuple[float, ...] = ()
    concurrencies: tuple[int, ...] = ()
    arrivals: Arrivals = "poisson"
    deadline: float | None = None

    @property
    def searches(self) -> bool:
        """True where the capacity is searched for."""
        return not self.rates and not self.concurrencies

    def saturating(self, alone: float) -> int:
        """Calls in flight that keep every engine busy, where one call alone takes `alone` seconds."""
        rows = min(SATURATING_ROWS, self.cores * SATURATING_SECONDS / alone)
        return max(2 * self.cores, math.ceil(rows / self.rows[0]))

    def seconds_at(self, rate: float) -> float:
        """How long to measure `rate` calls a second: longer where few come, so that a p99 means something."""
        return max(self.seconds, min(LONGEST_SECONDS, MIN_CALLS / rate))

    @property
    def expected_seconds(self) -> float:
        """About how long a model takes over all repeats."""
        run = self.seconds + WARM_UP_SECONDS + OVERHEAD_SECONDS
        loads = len(self.rates) * len(self.rows) + len(self.concurrencies) * len(self.rows)
        if self.searches:
            loads = 3 + PROBES_LATER
        once = RAW_TRIALS_SECONDS + (PROBES_FIRST - PROBES_LATER) * run * self.searches
        return once + self.repeats * (self.seconds + (1 + loads) * run)
