"""Plots of what accuracy costs."""

from collections.abc import Callable

from matplotlib.axes import Axes

from resnet_bench.report.canvas import label_points, new_axes
from resnet_bench.report.palette import BACK, INK
from resnet_bench.report.pareto import front
from resnet_bench.report.view import Shown, View
from resnet_bench.schema import Spread


def accuracy_against_latency(view: View) -> Axes | None:
    """Accuracy against p99 under moderate load; None where no model has both."""
    return _against(view, lambda shown: shown.calm.p99_ms if shown.calm else None, f"p99 {view.calm_name}, ms")


def accuracy_against_cost(view: View) -> Axes | None:
    """Accuracy against CPU time; None where no model has both."""
    return _against(view, lambda shown: shown.busy.cpu_seconds if shown.busy else None, "CPU seconds per 1,000 images")


def _against(view: View, cost: Callable[[Shown], Spread | None], name: str) -> Axes | None:
    found = [(shown, spread, shown.model.facts.accuracy) for shown in view.models if (spread := cost(shown)) is not None]
    known = [(shown, spread, accuracy) for shown, spread, accuracy in found if accuracy is not None]
    if not known:
        return None
    axes = new_axes()
    points = [(spread.median, accuracy) for _, spread, accuracy in known]
    best = [points[index] for index in front(points)]
    axes.step(*zip(*best, strict=True), where="post", color=INK, linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
    for (shown, spread, accuracy), point in zip(known, points, strict=True):
        axes.plot((spread.low, spread.high), (accuracy, accuracy), color=shown.colour, linewidth=2, solid_capstyle="round")
        filled = shown.colour if point in best else BACK
        axes.plot(*point, marker=shown.marker, markersize=9, color=filled, markeredgecolor=shown.colour, markeredgewidth=1.6)
    axes.set(xlabel=name, ylabel="top-1 accuracy, %")
    axes.margins(0.14)
    if axes.get_xlim()[0] < 0:
        axes.set_xlim(left=0)
    label_points(axes, points, [shown.label for shown, _, _ in known], [INK] * len(known))
    return axes
