"""What every driver is given: the load, and somebody who looks at the server meanwhile. It gives back a Sample."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

from resnet_bench.requests import Requests
from resnet_bench.sample import Sample
from resnet_bench.target import Target

Arrivals = Literal["poisson", "constant", "closed"]


class Observer(Protocol):
    """Told when the counted time of a run begins and ends."""

    def begin(self) -> None:
        """The counted time begins."""

    def end(self) -> None:
        """It ends."""


@dataclass(frozen=True)
class Load:
    """One load on one model; all times in seconds.

    Open loop (`poisson`, `constant`): `rate` calls a second are sent whether or not earlier ones are answered. Closed loop:
    `concurrency` calls are in flight, the next is sent when one is answered. `rows` images a call. The first `warm_up` seconds are not
    counted. An answer within `slo` counts as goodput; `deadline` is sent with each call as gRPC's timeout, None sends none. Poisson
    gaps are drawn from `seed`. Each generator spreads its calls over `connections`.
    """

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
    connections: int = 1

    @property
    def open_loop(self) -> bool:
        """True where calls do not wait for answers."""
        return self.arrivals != "closed"

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
        text = f"{self.rate:,.4g} calls/s {self.arrivals}" if self.open_loop else f"{self.concurrency} in flight"
        return f"{text}, {self.rows} rows" if self.rows > 1 else text


class Driver(Protocol):
    """Runs a load on a target.

    Raises BenchError where the service is wrong or nobody answers; a run that does not count is a void sample.
    """

    name: str

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """Drive the load, tell the observer when the counted time begins and ends, and give what came back."""
        ...


def sample_of(load: Load, driver: str) -> Sample:
    """An empty sample of this load."""
    asked = (load.arrivals, load.rate, load.concurrency, load.rows, load.seconds, load.slo, load.deadline, load.seed)
    return Sample(load.model, driver, *asked)
