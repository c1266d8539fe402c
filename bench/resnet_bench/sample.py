"""The record of one run: the one thing that every result file holds, whatever command wrote it."""

from dataclasses import dataclass, field

from resnet_bench.machine import Disturbance

OK, UNANSWERED = "OK", "UNANSWERED"
GOODPUT = 0.99
CALLS_FOR = {"p50": 10, "p90": 50, "p99": 500, "p99.9": 5000}
"""So many calls a percentile needs; a p99 of 100 calls is just their maximum."""


@dataclass(frozen=True)
class ServerTimes:
    """What a resnet-server counted of a run.

    Mean milliseconds of a call in the queue and in the server as a whole, those of a batch in its engine, and batches by the upper end
    of their bucket of rows. A call larger than a batch is split over engines that compute at the same time, so `batch_ms` is no part
    of a call's time.
    """

    queue_ms: float
    total_ms: float
    batch_ms: float
    batch_rows: dict[str, int]


@dataclass(frozen=True)
class Sample:
    """One run of one load on one target, warm-up not counted. Times of the load in seconds, latencies in milliseconds.

    `rate` and `concurrency` are calls; one of them is 0. `calls` were meant to be sent in the counted time (closed loop: answered in
    it), `outcomes` counts them by gRPC status. `answered` counts OK answers that arrived in it, `in_time` OK answers within the SLO
    from the intended time, `service_in_time` those within it from the moment the call really left. `latency_ms` of OK answers: mean,
    max and those percentiles for which there were calls enough. `lag_p99_ms`, `late` and `slip` say how late the generator sent.
    `watched`: calls answered while the machine was watched, with some drivers longer than the counted time; 0: as answered.
    `cpu`: CPU seconds per 1,000 images by process, "generator" included; `memory`: proportional set size in bytes at the end, by process.
    `kind`, `repeat` and `order` place the run in its benchmark; `void` says why it does not count.
    """

    model: str
    driver: str
    arrivals: str
    rate: float
    concurrency: int
    rows: int
    seconds: float
    slo: float
    deadline: float | None
    seed: int
    target: str = ""
    setup: str = ""
    precision: str = ""
    kind: str = ""
    repeat: int = 0
    order: int = 0
    started_at: str = ""
    calls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    watched: int = 0
    in_time: int = 0
    service_in_time: int = 0
    latency_ms: dict[str, float] = field(default_factory=dict)
    lag_p99_ms: float = 0.0
    late: int = 0
    slip: float = 0.0
    generator_cpu: float = 0.0
    niceness: int = 0
    cpu: dict[str, float] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    server: ServerTimes | None = None
    machine: Disturbance = field(default_factory=Disturbance)
    first_error: str = ""
    void: str = ""

    @property
    def open_loop(self) -> bool:
        """True where calls did not wait for answers."""
        return self.arrivals != "closed"

    @property
    def images(self) -> float:
        """Images a second answered."""
        return self.answered * self.rows / self.seconds

    @property
    def achieved_rate(self) -> float:
        """Calls a second that were really meant to be sent: Poisson arrivals of a short run differ from the nominal rate."""
        return self.calls / self.seconds

    @property
    def goodput(self) -> float:
        """Share of the calls answered OK within the SLO, 0..1; 0 where nothing was sent."""
        return self.in_time / self.calls if self.calls else 0.0

    @property
    def service_goodput(self) -> float:
        """As `goodput`, but from the moment calls really left: what a late generator cannot have spoilt."""
        return self.service_in_time / self.calls if self.calls else 0.0

    @property
    def met(self) -> bool:
        """True if at least 99 % of all calls were answered OK within the SLO, so that p99 is within it."""
        return not self.void and self.goodput >= GOODPUT

    @property
    def missed(self) -> bool:
        """True if the SLO was missed for certain.

        A generator that lags makes the load easier: a server that misses the SLO even from the moment calls really left would miss it
        with all calls in time, too.
        """
        return not self.met and (not self.void or (self.void.startswith("the generator") and self.service_goodput < GOODPUT))

    @property
    def cpu_seconds(self) -> float | None:
        """CPU seconds of the target per 1,000 images; None where it is not ours to look at."""
        seconds = [value for name, value in self.cpu.items() if name != "generator"]
        return sum(seconds) if seconds else None

    @property
    def memory_bytes(self) -> int | None:
        """Of all the target's processes, pages that they share counted once; None where it is not ours to look at."""
        return sum(self.memory.values()) or None

    @property
    def split_ms(self) -> tuple[float, float, float] | None:
        """Mean milliseconds of a call in the queue, in the server from its batch on, and outside of the server.

        They add up to the client's mean, and none is cut off at 0. None where the server's metrics are not known.
        """
        if self.server is None or "mean" not in self.latency_ms:
            return None
        queue, total = self.server.queue_ms, self.server.total_ms
        return queue, total - queue, self.latency_ms["mean"] - total

    @property
    def load(self) -> str:
        """The load in words."""
        text = f"{self.rate:,.4g}/s" if self.open_loop else f"{self.concurrency} in flight"
        return f"{text}, {self.rows} rows" if self.rows > 1 else text


def percentiles(of: "dict[str, float]", calls: int) -> dict[str, float]:
    """The latency figures for which there were enough calls."""
    return {name: value for name, value in of.items() if calls >= CALLS_FOR.get(name, 1)}
