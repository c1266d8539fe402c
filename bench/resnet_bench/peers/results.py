"""The result of `peers` as data: what `peers.json` holds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from resnet_bench.limit.results import spread_of_known
from resnet_bench.schema import Machine, Spread

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One repeat of one load on one server; CPU of all its processes in microseconds a call."""

    served: float
    p50_ms: float | None
    p99_ms: float | None
    cpu_us: float


@dataclass(frozen=True)
class Row:
    """One server under one load, over all repeats: images a second, and what ours does against it in the same repeats.

    `ratio` is our throughput over the peer's, `p99_ratio` our p99 over the peer's (below 1: ours is sooner); None in the
    rows of ours. `least` and `p99_no_worse` are what is to be reached; `why` says why a peer has no figures.
    """

    model: str
    in_flight: int
    rows: int
    peer: str
    precision: str
    served: Spread | None = None
    p50_ms: Spread | None = None
    p99_ms: Spread | None = None
    cpu_us: float | None = None
    ratio: Spread | None = None
    p99_ratio: Spread | None = None
    least: float | None = None
    p99_no_worse: bool = False
    why: str = ""

    @property
    def reached(self) -> bool | None:
        """Whether the median ratios are what was to be reached; None where nothing was, or nothing was measured."""
        if self.least is None or self.ratio is None:
            return None
        sooner = not self.p99_no_worse or (self.p99_ratio is not None and self.p99_ratio.median <= 1)
        return self.ratio.median >= self.least and sooner


@dataclass(frozen=True)
class PeersReport:
    """All rows; `setups` says how each peer was set up; `problems` what was void; `complete` is False after an interrupt."""

    command: str
    machine: Machine
    repeats: int
    seconds: float
    setups: dict[str, str]
    rows: tuple[Row, ...]
    problems: tuple[str, ...]
    complete: bool
    format: int = FORMAT
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def figures(runs: Sequence[Run]) -> dict[str, Spread | float | None]:
    """The fields of a Row that sum up one server's repeats."""
    return {
        "served": Spread.of([run.served for run in runs]),
        "p50_ms": spread_of_known([run.p50_ms for run in runs]),
        "p99_ms": spread_of_known([run.p99_ms for run in runs]),
        "cpu_us": statistics.median(run.cpu_us for run in runs),
    }


def ratios(ours: Mapping[int, Run], peer: Mapping[int, Run]) -> tuple[Spread | None, Spread | None]:
    """Ours over the peer's, throughput and p99, in those repeats that both have."""
    pairs = [(ours[repeat], peer[repeat]) for repeat in sorted(ours.keys() & peer.keys())]
    throughput = spread_of_known([mine.served / other.served for mine, other in pairs])
    late = spread_of_known([mine.p99_ms / other.p99_ms if mine.p99_ms and other.p99_ms else None for mine, other in pairs])
    return throughput, late
