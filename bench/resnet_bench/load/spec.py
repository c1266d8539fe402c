"""What a load is: which model, how calls arrive, and when an answer counts as good."""

from dataclasses import dataclass, replace
from typing import Literal

Arrivals = Literal["poisson", "constant", "closed"]


@dataclass(frozen=True)
class Load:
    """One load on one model; all times in seconds.

    Open loop (`poisson`, `constant`): `rate` calls a second are sent whether or not earlier ones are answered. Closed loop:
    `concurrency` calls are in flight, the next is sent when one is answered. `rows` images a call. The first `warm_up` seconds are
    not counted. An answer within `slo` is good; `deadline` is sent with each call as gRPC's timeout, None sends none.
    """

    url: str
    model: str
    version: str = ""
    arrivals: Arrivals = "poisson"
    rate: float = 0.0
    concurrency: int = 0
    rows: int = 1
    warm_up: float = 0.5
    seconds: float = 3.0
    slo: float = 0.05
    deadline: float | None = None
    seed: int = 0

    @property
    def grace(self) -> float:
        """How long answers are waited for after the last call; those that come later count as unanswered."""
        return max(1.0, 4 * self.slo)

    @property
    def late_after(self) -> float:
        """A call that leaves this much after its intended time was sent late: 10 % of the SLO, at least 1 ms."""
        return max(1e-3, 0.1 * self.slo)

    def part(self, index: int, count: int) -> "Load":
        """The share of generator `index` of `count`: of the rate, or of the calls in flight."""
        concurrency = self.concurrency // count + (index < self.concurrency % count)
        return replace(self, rate=self.rate / count, concurrency=concurrency, seed=self.seed * 1009 + index)

    def __str__(self) -> str:
        if self.arrivals == "closed":
            return f"{self.concurrency} in flight, {self.rows} rows"
        return f"{self.rate:,.4g} calls/s {self.arrivals}, {self.rows} rows"
