"""Plots of latency."""

from collections.abc import Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from resnet_bench.report.canvas import bar_height, label_points, legend_above, new_axes
from resnet_bench.report.palette import BACK, INK, PARTS, QUIET
from resnet_bench.report.view import Shown, View
from resnet_bench.schema import Point

COLOURS = (PARTS[1], PARTS[2], PARTS[0])  # alone, calm, busy
PERCENTILES = (("p50_ms", "p50", "o"), ("p90_ms", "p90", "D"), ("p99_ms", "p99", "s"))

HIGHEST = 20  # times the SLO: what is above is drawn there
LOWEST_MS = 1e-3  # a logarithmic axis has no zero
SAME_RATE = 1.08
MOST_LABELS = 6  # more lines are told apart by a legend


def latency_by_depth(view: View) -> Axes | None:
    """p50, p90 and p99 of a call alone and under load, a row a model; None without any."""
    rows = [(shown, loads_of(shown)) for shown in view.models]
    if not any(point for _, points in rows for point in points):
        return None
    count = max(sum(point is not None for point in points) for _, points in rows)
    axes = new_axes(bar_height(len(rows)) + 0.4 + 0.12 * len(rows) * (count > 2))
    for row, (_, points) in enumerate(rows):
        for place, (point, colour) in enumerate(zip(points, COLOURS, strict=True)):
            if point is not None:
                _draw_range(axes, row - 0.24 + 0.24 * place, point, colour, filled=place > 0)
    _legend(axes, view)
    axes.set_yticks(range(len(rows)), [shown.tick for shown, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("latency, ms")
    _log(axes, "x")
    if view.report.models[0].capacity is not None:
        axes.axvline(1e3 * view.report.slo, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    return axes


def loads_of(shown: Shown) -> tuple[Point | None, Point | None, Point | None]:
    """A call alone, and the loads it is compared at: 50 % and 80 % of capacity, or the one that was asked for."""
    calm = shown.calm
    return shown.model.point("single"), calm, None if calm is shown.busy else shown.busy


def _draw_range(axes: Axes, height: float, point: Point, colour: str, filled: bool) -> None:
    values = [getattr(point, name).median for name, _, _ in PERCENTILES]
    axes.plot((values[0], values[-1]), (height, height), color=colour, linewidth=1.6, zorder=2)
    for value, (_, _, marker) in zip(values, PERCENTILES, strict=True):
        face = colour if filled else BACK
        axes.plot(value, height, marker=marker, markersize=6.5, color=face, markeredgecolor=colour, markeredgewidth=1.5, zorder=3)


def _legend(axes: Axes, view: View) -> None:
    names = ["alone", *dict.fromkeys(name.replace("its ", "") for name in (view.calm_name, view.busy_name)), " "]
    for (_, name, marker), load, colour in zip(PERCENTILES, names, COLOURS, strict=False):
        axes.plot([], [], marker=marker, linestyle="none", color=INK, markersize=7, label=name)
        axes.plot([], [], color=colour, linewidth=3, linestyle="-" if load.strip() else "none", label=load.removesuffix(" of capacity"))
    legend_above(axes, 3)  # filled column by column


def throughput_against_latency(view: View) -> Axes | None:
    """p99 against the rate offered, a line a model; None without open-loop runs."""
    if not any(shown.model.curve for shown in view.models):
        return None
    axes = new_axes(4.4 if len(view.models) <= MOST_LABELS else 5.4)
    ends = [_draw_curve(axes, shown, HIGHEST * 1e3 * view.report.slo) for shown in view.models if shown.model.curve]
    known = [shown for shown in view.models if shown.model.curve]
    axes.axhline(1e3 * view.report.slo, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    slo = (0, 1e3 * view.report.slo)
    axes.annotate(f"SLO {slo[1]:g} ms", slo, (4, 6), xycoords=("axes fraction", "data"), textcoords="offset points", fontsize=11)
    axes.set(xlabel="images a second offered", ylabel="p99, ms")
    _log(axes, "y")
    if max(x for x, _ in ends) > 8 * min(x for x, _ in ends):
        _log(axes, "x")
    axes.margins(x=0.12)
    if len(known) <= MOST_LABELS:
        label_points(axes, ends, [shown.label for shown in known], [shown.colour for shown in known])
    else:
        for shown in known:
            axes.plot([], [], color=shown.colour, marker=shown.marker, label=shown.label)
        legend_above(axes, 3)
    return axes


def _draw_curve(axes: Axes, shown: Shown, highest: float) -> tuple[float, float]:
    """A mark for each run and a line through the medians of runs at about the same rate; return where the label goes."""
    points = [(point.rate, min(highest, max(point.p99_ms, LOWEST_MS)), point.met) for point in shown.model.curve]
    line = medians([(rate, p99) for rate, p99, _ in points])
    axes.plot(*zip(*line, strict=True), color=shown.colour, linewidth=1.6, alpha=0.7)
    for rate, p99, met in points:
        face = shown.colour if met else BACK
        axes.plot(rate, p99, marker=shown.marker, markersize=6, color=face, markeredgecolor=shown.colour, markeredgewidth=1.3)
    last = max((point for point in points if point[2]), default=points[0])
    return last[:2]


def medians(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points (rate, latency) by ascending rate, those within 8 % of the group's first as one: the medians of both."""
    groups: list[list[tuple[float, float]]] = []
    for point in sorted(points):
        if groups and point[0] <= SAME_RATE * groups[-1][0][0]:
            groups[-1].append(point)
        else:
            groups.append([point])
    return [(median(rate for rate, _ in group), median(latency for _, latency in group)) for group in groups]


def _log(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color=QUIET)
