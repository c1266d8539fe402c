"""The plots of a comparison of depths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from matplotlib.axes import Axes

from resnet_bench.report import canvas
from resnet_bench.report.canvas import BACK, INK, MARKERS, MOST_STEPS, PARTS, SERIES, STEPS, bar_height, legend_above, logarithmic, new_axes
from resnet_bench.report.findings import beaten, p99_at_equal_rate
from resnet_bench.report.tables import labels
from resnet_bench.results import Cell, ModelResult, Report
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary

COLOURS = (PARTS[1], PARTS[2], PARTS[0])  # alone, half, high
PERCENTILES = (("p50", "o"), ("p90", "D"), ("p99", "s"))
HIGHEST = 20  # times the SLO: what is above is drawn there
LOWEST_MS = 1e-3  # a logarithmic axis has no zero
SAME_RATE = 1.08
MOST_LABELS = 6  # more lines are told apart by a legend
READABLE = 9  # percent of the axis: a narrower part holds no text
DOTTED = (0, (2, 3))


@dataclass(frozen=True)
class Shown:
    """A model as the plots show it; more models than colours begin the colours again."""

    model: ModelResult
    label: str
    colour: str
    marker: str

    @property
    def tick(self) -> str:
        """The label on two lines where it is long."""
        return self.label.replace(" ", "\n", 1)

    @property
    def high(self) -> Cell | None:
        """The load at which costs are compared: 80 % of capacity, or the last one that was asked for."""
        asked = [cell for cell in self.model.cells if cell.first.kind in ("rate", "closed") and cell.runs]
        return self.model.cell("high") or (asked[-1] if asked else None)


def shown_models(report: Report) -> list[Shown]:
    """All models, in the report's order: shallow first."""
    named = enumerate(zip(labels(report), report.results, strict=True))
    return [Shown(model, label, SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]) for i, (label, model) in named]


def accuracy_against_latency(report: Report, models: Sequence[Shown]) -> Axes | None:
    """Accuracy against p99 at an equal rate, or under the load that was asked for; None where no model has both."""

    def late(shown: Shown) -> Summary | None:
        found = p99_at_equal_rate(shown.model)
        cell = shown.high
        return found or (cell.latency("p99") if cell and not shown.model.searches else None)

    return _against(models, late, "p99 in ms, at the same rate for all")


def accuracy_against_cost(report: Report, models: Sequence[Shown]) -> Axes | None:
    """Accuracy against CPU time; None where no model has both."""
    return _against(models, lambda s: s.high.summary(lambda run: run.cpu_seconds) if s.high else None, "CPU seconds per 1,000 images")


def _against(models: Sequence[Shown], cost: Callable[[Shown], Summary | None], name: str) -> Axes | None:
    known = [(s, found, s.model.facts.accuracy) for s in models if (found := cost(s)) is not None and s.model.facts.accuracy is not None]
    if not known:
        return None
    axes = new_axes()
    others = [shown.model for shown, _, _ in known]
    for shown, found, accuracy in known:
        axes.plot((found.low, found.high), (accuracy, accuracy), color=shown.colour, linewidth=2, solid_capstyle="round")
        filled = BACK if beaten(shown.model, others) else shown.colour
        axes.plot(
            found.median, accuracy, marker=shown.marker, markersize=9, color=filled, markeredgecolor=shown.colour, markeredgewidth=1.6
        )
    axes.set(xlabel=name, ylabel="top-1 accuracy, %")
    axes.margins(0.14)
    if axes.get_xlim()[0] < 0:
        axes.set_xlim(left=0)
    points = [(found.median, float(accuracy or 0)) for _, found, accuracy in known]
    canvas.label_points(axes, points, [shown.label for shown, _, _ in known], [INK] * len(known))
    return axes


def latency_by_depth(report: Report, models: Sequence[Shown]) -> Axes | None:
    """p50, p90 and p99 of a call alone and under load, a row a model; None without any."""
    rows = [(s, [s.model.cell("single"), s.model.cell("half"), s.high]) for s in models]
    if not any(cell for _, found in rows for cell in found):
        return None
    axes = new_axes(bar_height(len(rows)) + 0.4 + 0.12 * len(rows))
    for row, (_, found) in enumerate(rows):
        for place, (cell, colour) in enumerate(zip(found, COLOURS, strict=True)):
            points = [(s.median, marker) for name, marker in PERCENTILES if cell and (s := cell.latency(name)) is not None]
            height = row - 0.24 + 0.24 * place
            axes.plot([value for value, _ in points], [height] * len(points), color=colour, linewidth=1.6, zorder=2)
            for value, marker in points:
                face = colour if place else BACK
                axes.plot(value, height, marker=marker, markersize=6.5, color=face, markeredgecolor=colour, markeredgewidth=1.5, zorder=3)
    for (name, marker), load, colour in zip(PERCENTILES, ("alone", "half load", "high load"), COLOURS, strict=True):
        axes.plot([], [], marker=marker, linestyle="none", color=INK, markersize=7, label=name)
        axes.plot([], [], color=colour, linewidth=3, label=load)
    legend_above(axes, 3)  # filled column by column
    _rows(axes, models, "latency, ms")
    logarithmic(axes, "x")
    if report.searches:
        axes.axvline(1e3 * report.settings.slo, color=INK, linewidth=1, linestyle=DOTTED)
    return axes


def throughput_against_latency(report: Report, models: Sequence[Shown]) -> Axes | None:
    """p99 against the rate offered, a line a model; None without open-loop runs."""
    slo_ms = 1e3 * report.settings.slo
    curves = [(s, [run for run in s.model.samples if run.open_loop and not run.void and run.latency_ms]) for s in models]
    curves = [(shown, runs) for shown, runs in curves if runs]
    if not curves:
        return None
    axes = new_axes(4.4 if len(curves) <= MOST_LABELS else 5.4)
    ends = [_curve(axes, shown, runs, HIGHEST * slo_ms) for shown, runs in curves]
    axes.axhline(slo_ms, color=INK, linewidth=1, linestyle=DOTTED)
    axes.annotate(f"SLO {slo_ms:g} ms", (0, slo_ms), (4, 6), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=11)
    axes.set(xlabel="images a second offered", ylabel="p99, ms")
    logarithmic(axes, "y")
    if max(x for x, _ in ends) > 8 * min(x for x, _ in ends):
        logarithmic(axes, "x")
    axes.margins(x=0.12)
    if len(curves) <= MOST_LABELS:
        canvas.label_points(axes, ends, [shown.label for shown, _ in curves], [shown.colour for shown, _ in curves])
    else:
        for shown, _ in curves:
            axes.plot([], [], color=shown.colour, marker=shown.marker, label=shown.label)
        legend_above(axes, 3)
    return axes


def _curve(axes: Axes, shown: Shown, runs: Sequence[Sample], highest: float) -> tuple[float, float]:
    """A mark for each run and a line through the medians of runs at about the same rate; return where the label goes."""
    points = sorted((run.rate * run.rows, min(highest, max(_late(run), LOWEST_MS)), run.met) for run in runs)
    axes.plot(*zip(*medians([point[:2] for point in points]), strict=True), color=shown.colour, linewidth=1.6, alpha=0.7)
    for rate, p99, met in points:
        face = shown.colour if met else BACK
        axes.plot(rate, p99, marker=shown.marker, markersize=6, color=face, markeredgecolor=shown.colour, markeredgewidth=1.3)
    return max((point for point in points if point[2]), default=points[0])[:2]


def _late(run: Sample) -> float:
    """p99, or what stands nearest to it where there were too few calls."""
    return next(run.latency_ms[name] for name in ("p99", "max") if name in run.latency_ms)


def medians(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (rate, latency) by ascending rate, those within 8 % of the group's first as one: the medians of both."""
    groups: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        if groups and point[0] <= SAME_RATE * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [(median(rate for rate, _ in group), median(latency for _, latency in group)) for group in groups]


def efficiency_by_depth(report: Report, models: Sequence[Shown]) -> Axes | None:
    """Served over raw ONNX Runtime; None where raw was not measured."""
    bars = [(row, place, value) for row, s in enumerate(models) for place, value in enumerate(_efficiencies(s.model)) if value is not None]
    if not bars:
        return None
    axes = new_axes(bar_height(len(models)) + 0.2)
    for place, name in enumerate(("within the SLO", "saturated")):
        axes.barh(0, 0, color=PARTS[place], label=name)
    for row, place, value in bars:
        axes.barh(row - 0.2 + 0.4 * place, value, 0.36, color=PARTS[place])
        axes.annotate(f"{value:.2f}", (value, row - 0.2 + 0.4 * place), (4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.axvline(1, color=INK, linewidth=1, linestyle=DOTTED)
    _rows(axes, models, "share of raw ONNX Runtime")
    legend_above(axes, 2)
    axes.set_xlim(0, max(1.1, axes.get_xlim()[1]))
    return axes


def _efficiencies(model: ModelResult) -> tuple[float | None, float | None]:
    full = model.figure("saturation", lambda run: run.images) or model.figure("closed", lambda run: run.images)
    return model.efficiency, full.median / model.raw.median if full and model.raw else None


def time_split(report: Report, models: Sequence[Shown]) -> Axes | None:
    """Shares of a call's time in the queue, in the server from its batch on, and outside; None without the server's metrics."""
    known = [(s, [run.split_ms for run in s.high.runs if run.split_ms]) for s in models if s.high is not None]
    known = [(shown, splits) for shown, splits in known if splits]
    if not known:
        return None
    axes = new_axes(bar_height(len(known)))
    for row, (_, splits) in enumerate(known):
        parts = [median(values) for values in zip(*splits, strict=True)]
        total = sum(map(abs, parts)) or 1.0
        _stack(axes, row, [100 * abs(part) / total for part in parts], PARTS, [f"{part:.3g}" for part in parts], [BACK] * len(parts))
        axes.annotate(f"{sum(parts):.3g} ms", (100, row), (5, 0), textcoords="offset points", va="center")
    for name, colour in zip(("queue", "service", "outside"), PARTS, strict=True):
        axes.barh(0, 0, color=colour, label=name)
    _rows(axes, [shown for shown, _ in known], "share of a call's mean time, % (milliseconds in the bars)")
    axes.set_xlim(0, 116)
    axes.set_xticks(range(0, 101, 20))
    legend_above(axes, 3)
    return axes


def batch_sizes(report: Report, models: Sequence[Shown]) -> Axes | None:
    """Shares of the batches by rows; None where the server's metrics are not known."""
    known = [(s, s.high.batch_rows) for s in models if s.high is not None and any(s.high.batch_rows.values())]
    if not known:
        return None
    buckets = [name for name in known[0][1] if any(rows.get(name) for _, rows in known)]
    colours = [STEPS[min(MOST_STEPS - 1, index * MOST_STEPS // len(buckets))] for index in range(len(buckets))]
    inks = [INK if index < len(buckets) / 2 else BACK for index in range(len(buckets))]
    axes = new_axes(bar_height(len(known)) + 0.3)
    for row, (_, rows) in enumerate(known):
        shares = [100 * rows.get(name, 0) / sum(rows.values()) for name in buckets]
        _stack(axes, row, shares, colours, [f"{share:.0f}" for share in shares], inks)
    for name, colour in zip(_ranges(buckets, list(known[0][1])), colours, strict=True):
        axes.barh(0, 0, color=colour, label=name)
    _rows(axes, [shown for shown, _ in known], "share of the batches, %")
    axes.set_xlim(0, 100)
    legend_above(axes, 5)
    return axes


def _ranges(buckets: Sequence[str], every: Sequence[str]) -> list[str]:
    """`8` after `4` is written 5-8, as the bucket holds all batches of 5 to 8 rows."""
    firsts = {bucket: int(before) + 1 for before, bucket in zip(("0", *every), every, strict=False)}
    names = {bucket: f"> {first - 1}" if bucket == "more" else f"{first}-{bucket}" for bucket, first in firsts.items()}
    return [bucket if names[bucket] == f"{bucket}-{bucket}" else names[bucket] for bucket in buckets]


def _stack(axes: Axes, row: int, shares: Sequence[float], colours: Sequence[str], texts: Sequence[str], inks: Sequence[str]) -> None:
    left = 0.0
    for share, colour, text, ink in zip(shares, colours, texts, inks, strict=True):
        axes.barh(row, share, 0.62, left=left, color=colour, edgecolor=BACK, linewidth=0.8)
        if share >= READABLE:
            axes.text(left + share / 2, row, text, ha="center", va="center", color=ink, fontsize=10)
        left += share


def _rows(axes: Axes, models: Sequence[Shown], name: str) -> None:
    axes.set_yticks(range(len(models)), [shown.tick for shown in models])
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(name)
