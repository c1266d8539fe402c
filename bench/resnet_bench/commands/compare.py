"""`resnet-bench compare`: what changed between two results, and whether it is more than noise."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click
import numpy as np

from resnet_bench.commands.shared import show
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.report.tables import shown, text_table
from resnet_bench.results import Figure, ModelResult, Report, read_report
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary, adjusted_p_values, least_p_value

Verdict = Literal["better", "worse", "same", "unknown"]
Values = dict[int, float]

SIGNIFICANCE = 0.05  # the chance of any false alarm in a whole comparison
SMALLEST = 0.02  # of the figure: less is not a change, however still the machine was
WORDS = {"better": "BETTER", "worse": "WORSE", "same": "within noise", "unknown": "too few repeats"}
IMAGES, CPU = "images/s", "CPU s per 1,000 images"
BY_KIND = {
    "raw": (IMAGES,),
    "single": ("p50 ms", "p99 ms"),
    "saturation": (IMAGES, CPU),
    "equal": ("p99 ms", CPU),
    **dict.fromkeys(("rate", "closed", "load"), (IMAGES, "p50 ms", "p99 ms", CPU)),
}
"""What is compared of each load; one that is a share of a capacity is at another rate where the capacity changed."""


@dataclass(frozen=True)
class Change:
    """One figure of one model in both results, by repeat; `p` is corrected for the number of figures."""

    model: str
    figure: str
    more_is_better: bool
    before: Values
    after: Values
    p: float = 1.0

    @property
    def factor(self) -> float:
        """After over before, of the medians."""
        medians = [np.median(list(values.values())) for values in (self.before, self.after)]
        return float(medians[1] / medians[0]) if medians[0] else 1.0

    @property
    def verdict(self) -> Verdict:
        """Better or worse where the change is significant and more than 2 %."""
        if least_p_value(len(self.before), len(self.after)) > SIGNIFICANCE:
            return "unknown"
        if self.p > SIGNIFICANCE or abs(self.factor - 1) <= SMALLEST:
            return "same"
        return "better" if (self.factor > 1) == self.more_is_better else "worse"


@click.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
@click.option("--all", "show_all", is_flag=True, help="Also show what is within noise.")
@click.option("--fail-on-regression", is_flag=True, help="Exit with status 1 if anything is worse.")
@one_line_errors
def compare(before: Path, after: Path, show_all: bool, fail_on_regression: bool) -> None:
    """Say what changed from BEFORE to AFTER, two results.json, and whether it is more than noise.

    More than noise: a permutation test over the repeats, corrected for the number of figures, gives at most one false alarm in twenty
    comparisons; and the medians differ by more than 2 %.
    """
    first, second = read_report(before), read_report(after)
    found = changes(first, second)
    if not found:
        raise BenchError(f"models: {before} and {after} have no figure in common")
    worse = lost(first, second)
    wanted = [change for change in found if show_all or change.verdict in ("better", "worse")]
    if wanted:
        header = ("model", "figure", "before", "after", "factor", "p", "verdict")
        show(text_table("", header, [row(change) for change in wanted]))
    quiet = sum(change.verdict == "same" for change in found)
    if unknown := sum(change.verdict == "unknown" for change in found):
        show(f"{unknown} of {len(found)} figures have too few repeats for any verdict; 4 in each result are the least, 5 are better")
    if quiet:
        show(f"{quiet} of {len(found)} figures are within noise" + ("" if wanted else ": nothing changed"))
    for text in worse:
        show(f"WORSE: {text}")
    for text in differences(first, second):
        show(f"not the same: {text}")
    count = sum(change.verdict == "worse" for change in found) + len(worse)
    if fail_on_regression and count:
        click.echo(f"regression: {count} figures are worse by more than noise", err=True)
        sys.exit(1)


def row(change: Change) -> tuple[str, ...]:
    """A change as text."""
    spreads = [shown(Summary.of(values.values())) for values in (change.before, change.after)]
    return change.model, change.figure, *spreads, f"{change.factor:.2f}", f"{change.p:.3f}", WORDS[change.verdict]


def changes(before: Report, after: Report) -> list[Change]:
    """Every figure that both results have of a model, in order, tested all together."""
    found = [change for one, other in pairs(before, after) for change in _of_model(one, other)]
    if not found:
        return []
    matrices = [
        np.array([[getattr(change, side).get(repeat, np.nan) for repeat in range(_repeats(found, side))] for change in found])
        for side in ("before", "after")
    ]
    p_values = adjusted_p_values(*matrices)
    return [Change(c.model, c.figure, c.more_is_better, c.before, c.after, float(p)) for c, p in zip(found, p_values, strict=True)]


def _repeats(found: list[Change], side: str) -> int:
    return 1 + max(repeat for change in found for repeat in (change.before if side == "before" else change.after))


def pairs(before: Report, after: Report) -> list[tuple[ModelResult, ModelResult]]:
    """The models of both, by name and precision."""
    known = {(model.facts.name, model.facts.precision): model for model in after.results}
    return [(model, known[key]) for model in before.results if (key := (model.facts.name, model.facts.precision)) in known]


def _of_model(before: ModelResult, after: ModelResult) -> Iterator[Change]:
    name = f"{before.facts.name} {before.facts.precision}".strip()
    one, other = figures(before), figures(after)
    for figure, values in one.items():
        if values and other.get(figure):
            yield Change(name, figure, figure.endswith(IMAGES), values, other[figure])


def figures(model: ModelResult) -> dict[str, Values]:
    """Everything that is compared of a model, by name: a value for each repeat."""
    found = {f"capacity, {IMAGES}": {search.repeat: search.confirmed for search in model.searches if search.confirmed}}
    for cell in model.cells:
        first = cell.first
        where = f"{first.target} {first.setup}, " if first.kind == "closed" and first.target not in ("ours", "server") else ""
        for title in BY_KIND.get(first.kind, ()):
            found[f"{where}{'' if first.kind == 'raw' else first.load + ', '}{first.kind}: {title}"] = cell.by_repeat(_figure(title))
    return found


def _figure(title: str) -> Figure:
    if title == IMAGES:
        return lambda run: run.images
    if title == CPU:
        return lambda run: run.cpu_seconds
    name = title.removesuffix(" ms")

    def percentile(run: Sample) -> float | None:
        return run.latency_ms.get(name)

    return percentile


def lost(before: Report, after: Report) -> list[str]:
    """Regressions that no figure shows: a model that no longer meets the SLO, or is less accurate."""
    found = []
    for one, other in pairs(before, after):
        name = one.facts.name
        if one.capacity and other.searches and not other.capacity:
            found.append(f"{name}: met the SLO before and does not now: {other.searches[0].reason}")
        if one.facts.accuracy is not None and other.facts.accuracy is not None and other.facts.accuracy < one.facts.accuracy:
            found.append(f"{name}: accuracy fell from {one.facts.accuracy:.2f} to {other.facts.accuracy:.2f} %")
    return found


def differences(before: Report, after: Report) -> list[str]:
    """What else is different, so that the figures may not be comparable."""
    one, other = before.machine, after.machine
    facts = [
        ("machine", f"{one.processor}, {one.cores} cores", f"{other.processor}, {other.cores} cores"),
        ("kernel", one.kernel, other.kernel),
        ("control group", str(one.cgroup), str(other.cgroup)),
        ("revision", one.revision, other.revision),
        ("SLO", f"{1e3 * before.settings.slo:g} ms", f"{1e3 * after.settings.slo:g} ms"),
        ("images a call", str(before.settings.rows), str(after.settings.rows)),
        ("duration", f"{before.settings.seconds:g} s", f"{after.settings.seconds:g} s"),
        ("Python", one.python, other.python),
    ]
    names = sorted(one.versions.keys() | other.versions.keys())
    facts += [(name, one.versions.get(name, "none"), other.versions.get(name, "none")) for name in names]
    for first, second in ((model.facts, twin.facts) for model, twin in pairs(before, after)):
        facts.append((f"{first.name}: plan", first.plan or "unknown", second.plan or "unknown"))
        facts.append((f"{first.name}: certificate", first.certificate_id[:16] or "none", second.certificate_id[:16] or "none"))
    return [f"{name}: {old} before, {new} after" for name, old, new in facts if old != new]
