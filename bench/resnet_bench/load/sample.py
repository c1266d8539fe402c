"""What was seen of one load: by one generator process (`Tally`), and by all together (`Sample`)."""

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from hdrh.histogram import HdrHistogram

from resnet_bench.load.histogram import merged, percentile_ms
from resnet_bench.load.spec import Load

OK, UNANSWERED = "OK", "UNANSWERED"


@dataclass
class Tally:
    """Of one process, of the calls that count: those meant to be sent in the counted time (closed loop: answered in it).

    `on_time` counts OK answers within the SLO from the intended time, `soon_enough` those within it from sending; `answered`
    counts OK answers that arrived in the counted time, `late` calls sent too late (see `Load.late_after`), `slip` is the
    greatest lag of the last calls in seconds. Histograms are encoded: `latency` of OK answers from the intended time, `lag` from
    the intended time to sending. `kept` holds some answers with the index of their request, for the check afterwards.
    """

    sent: int = 0
    answered: int = 0
    on_time: int = 0
    soon_enough: int = 0
    late: int = 0
    slip: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    latency: bytes = b""
    lag: bytes = b""
    cpu_seconds: float = 0.0
    niceness: int = 0
    wall_seconds: float = 0.0
    kept: list[tuple[int, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """One run of a load. `void` says why it does not count, empty where it does."""

    load: Load
    parts: tuple[Tally, ...]
    void: str = ""

    @property
    def sent(self) -> int:
        """Calls that count."""
        return sum(part.sent for part in self.parts)

    @cached_property
    def outcomes(self) -> Counter[str]:
        """Calls by gRPC status; UNANSWERED are those that had no answer at the end of `Load.grace`."""
        return sum((part.outcomes for part in self.parts), Counter[str]())

    @property
    def on_time(self) -> int:
        """OK answers within the SLO."""
        return sum(part.on_time for part in self.parts)

    @property
    def goodput(self) -> float:
        """Share of the calls answered OK within the SLO, 0..1; 0 where nothing was sent."""
        return self.on_time / self.sent if self.sent else 0.0

    @property
    def leniently(self) -> float:
        """As `goodput`, but from the moment calls really left: what lag of the generator cannot have spoilt."""
        return sum(part.soon_enough for part in self.parts) / self.sent if self.sent else 0.0

    @property
    def throughput(self) -> float:
        """Images a second answered."""
        return sum(part.answered for part in self.parts) * self.load.rows / self.load.seconds

    @property
    def generator_cpu(self) -> float:
        """Processor time of the busiest generator process, in cores."""
        return max(part.cpu_seconds / part.wall_seconds for part in self.parts)

    @property
    def late_share(self) -> float:
        """Share of the calls that were sent late, 0..1."""
        return sum(part.late for part in self.parts) / self.sent if self.sent else 0.0

    @property
    def slip(self) -> float:
        """How far the schedule had slipped at its end, in seconds."""
        return max(part.slip for part in self.parts)

    @cached_property
    def latency(self) -> HdrHistogram:
        """Of OK answers, in microseconds from the intended time."""
        return merged(part.latency for part in self.parts)

    def latency_ms(self, percentile: float) -> float:
        """A percentile of latency in milliseconds."""
        return percentile_ms(self.latency, percentile)

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return float(self.latency.get_mean_value()) / 1e3

    def lag_ms(self, percentile: float) -> float:
        """A percentile of how late calls were sent, in milliseconds."""
        return percentile_ms(merged(part.lag for part in self.parts), percentile)

    @property
    def first_error(self) -> str:
        """What the server said of the first call that failed."""
        return next((part.first_error for part in self.parts if part.first_error), "")
