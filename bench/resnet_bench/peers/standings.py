"""`peers` as a table: under each load ours, raw ONNX Runtime, and every peer in its best configuration with ours against it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from resnet_bench.peers.lineup import OURS, RAW
from resnet_bench.peers.measurement import best_cells, equal_rates
from resnet_bench.report.tables import shown, with_interval
from resnet_bench.results import Cell, Facts, Figure, Report, cells
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary

SHARE = 0.8  # the default of `peers`, which files before it was recorded have

HEADER = (
    "network",
    "in flight",
    "rows",
    "server",
    "best configuration",
    "img/s",
    "p50 ms",
    "p99 ms",
    "CPU s/1000",
    "ours / it",
    "at equal rate, calls/s",
    "p99 ms there",
    "p99 ours / it",
)


@dataclass(frozen=True)
class Standing:
    """One server under one load in its best configuration, and ours against it in the same repeats."""

    facts: Facts
    load: tuple[int, int]
    name: str
    cell: Cell
    ratio: Summary | None
    equal: tuple[tuple[Cell, Summary | None], ...]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """A row, and another for each further rate."""
        cell = self.cell
        where = (f"{self.facts.name} {self.facts.precision}", *(str(number) for number in self.load), self.name, cell.first.setup)
        cpu = shown(cell.summary(lambda run: run.cpu_seconds), 3)
        figures = (shown(cell.summary(lambda run: run.images)), shown(cell.latency("p50")), shown(cell.latency("p99")), cpu)
        rates = [(f"{at.first.rate:,.0f}", shown(at.latency("p99")), with_interval(ratio, 2)) for at, ratio in self.equal] or [("", "", "")]
        yield *where, *figures, with_interval(self.ratio, 2) if self.name != OURS else "", *rates[0]
        for more in rates[1:]:
            yield *where, "", "", "", "", "", *more


def standings(report: Report) -> Iterator[Standing]:
    """All that was measured, load by load."""
    for model in report.results:
        loads = dict.fromkeys((sample.concurrency, sample.rows) for sample in model.samples if sample.kind == "closed")
        for load in loads:
            best = best_cells(model.samples, model.facts, *load)
            ours = best.get(OURS)
            rates = equal_rates(best, load[1], report.settings.shares or (SHARE,))
            equal = [cell for cell in cells(sample for sample in model.samples if is_at(sample, load[1], rates)).values() if cell.runs]
            for name, cell in best.items():
                ratio = None if ours is None or name == OURS else ratios(ours, cell, lambda run: run.images)
                at = tuple(
                    (one, ratios(mine, one, lambda run: run.latency_ms.get("p99")) if name != OURS else None)
                    for one in equal
                    for mine in equal
                    if (one.first.target, one.first.setup) == (name, cell.first.setup)
                    and (mine.first.target, mine.first.rate) == (OURS, one.first.rate)
                )
                yield Standing(model.facts, load, name if name != RAW else "raw ONNX Runtime", cell, ratio, at)


def is_at(sample: Sample, rows: int, rates: Sequence[float]) -> bool:
    """Whether this is a run at one of a load's equal rates."""
    return sample.kind == "equal" and sample.rows == rows and any(math.isclose(sample.rate, rate) for rate in rates)


def ratios(ours: Cell, peer: Cell, figure: Figure) -> Summary | None:
    """Ours over the peer's, in those repeats that both have."""
    mine, theirs = ours.by_repeat(figure), peer.by_repeat(figure)
    return Summary.of(mine[repeat] / theirs[repeat] for repeat in sorted(mine.keys() & theirs.keys()) if theirs[repeat])
