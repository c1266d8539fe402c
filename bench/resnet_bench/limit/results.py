"""The result of `limit` as data: what `limit.json` holds."""

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from resnet_bench.limit.scrape import Steps
from resnet_bench.schema import Machine, Spread

FORMAT = 1


@dataclass(frozen=True)
class Run:
    """One repeat of one load. `served` and `raw` in images a second; CPU in microseconds a call, by process."""

    served: float
    raw: float
    p50_ms: float | None
    p99_ms: float | None
    mean_ms: float
    cpu_us: dict[str, float]
    steps: Steps


@dataclass(frozen=True)
class Cell:
    """One load on one model: closed loop, `in_flight` calls of `rows` images each, over all repeats.

    `of_raw` is served over the raw figure measured right before. Steps are milliseconds of a call: `client` as h2load saw
    it on average, of which `queue`, `compute` and `rest` are the server's; CPU in microseconds a call, by process.
    """

    model: str
    precision: str
    in_flight: int
    rows: int
    raw_plan: str
    served: Spread
    raw: Spread
    of_raw: Spread
    p50_ms: Spread | None
    p99_ms: Spread | None
    client_ms: float
    queue_ms: float
    compute_ms: float
    rest_ms: float
    batch_rows: float
    cpu_us: dict[str, float]
    least: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether the median share of raw is what was to be reached; None where nothing was."""
        return None if self.least is None else self.of_raw.median >= self.least


@dataclass(frozen=True)
class LimitReport:
    """All cells; `problems` says in a line each what was void; `complete` is False after an interrupt."""

    command: str
    machine: Machine
    repeats: int
    seconds: float
    cells: tuple[Cell, ...]
    problems: tuple[str, ...]
    complete: bool
    format: int = FORMAT
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def make_cell(model: str, precision: str, load: tuple[int, int], raw_plan: str, least: float | None, runs: Sequence[Run]) -> Cell:
    """Sum up the repeats of one load, (in flight, rows)."""

    def middle(pick: Callable[[Run], float]) -> float:
        return statistics.median(pick(run) for run in runs)

    return Cell(
        model,
        precision,
        *load,
        raw_plan,
        Spread.of([run.served for run in runs]),
        Spread.of([run.raw for run in runs]),
        Spread.of([run.served / run.raw for run in runs]),
        spread_of_known([run.p50_ms for run in runs]),
        spread_of_known([run.p99_ms for run in runs]),
        middle(lambda run: run.mean_ms),
        middle(lambda run: run.steps.queue),
        middle(lambda run: run.steps.compute),
        middle(lambda run: run.steps.rest),
        middle(lambda run: run.steps.batch_rows),
        {name: statistics.median(run.cpu_us.get(name, 0.0) for run in runs) for name in runs[-1].cpu_us},
        least,
    )


def spread_of_known(values: Sequence[float | None]) -> Spread | None:
    """The spread of the values that are known; None if none is."""
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


def save(report: object, markdown: str, folder: Path, name: str) -> list[Path]:
    """Write NAME.json and NAME.md into `folder`, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    data, text = folder / f"{name}.json", folder / f"{name}.md"
    data.write_text(json.dumps(asdict(report), indent=2) + "\n", encoding="utf-8")  # type: ignore[call-overload]  # a dataclass
    text.write_text(markdown, encoding="utf-8")
    return [data, text]
