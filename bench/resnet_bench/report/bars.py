"""Plots with a bar for each model."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from resnet_bench.report.canvas import bar_height, legend_above, new_axes
from resnet_bench.report.palette import BACK, INK, MOST_STEPS, PARTS, STEPS
from resnet_bench.report.view import Shown, View
from resnet_bench.schema import Spread

READABLE = 0.09  # of the axis: a narrower part holds no text


def efficiency_by_depth(view: View) -> Axes | None:
    """Served over raw ONNX Runtime; None where raw was not measured."""
    bars = [(shown, _efficiencies(shown)) for shown in view.models]
    if not any(found for _, found in bars):
        return None
    names = list(dict.fromkeys(name for _, found in bars for name, _ in found))
    axes = new_axes(bar_height(len(bars)) + 0.2)
    thickness = 0.8 / len(names)
    for index, name in enumerate(names):
        for row, (_, found) in enumerate(bars):
            for spread in [spread for other, spread in found if other == name]:
                at = row - 0.4 + (index + 0.5) * thickness
                label = name if row == 0 else None
                axes.barh(at, spread.median, 0.9 * thickness, color=PARTS[index], label=label)
                axes.plot((spread.low, spread.high), (at, at), color=INK, linewidth=1.4)
                axes.annotate(f"{spread.median:.2f}", (spread.high, at), (4, 0), textcoords="offset points", va="center", fontsize=10)
    axes.axvline(1, color=INK, linewidth=1, linestyle=(0, (2, 3)))
    _rows(axes, [shown for shown, _ in bars], "share of raw ONNX Runtime")
    legend_above(axes, 2)
    axes.set_xlim(0, max(1.1, axes.get_xlim()[1]))
    return axes


def _efficiencies(shown: Shown) -> list[tuple[str, Spread]]:
    model = shown.model
    full = model.point("saturation") or shown.busy
    found = [("within the SLO", model.capacity.efficiency if model.capacity else None), ("saturated", full.efficiency if full else None)]
    return [(name, spread) for name, spread in found if spread is not None]


def time_split(view: View) -> Axes | None:
    """Shares of a call's time in the queue, computing and on the wire; None where the server's metrics are not known."""
    known = [(shown, shown.busy.split) for shown in view.models if shown.busy is not None and shown.busy.split is not None]
    if not known:
        return None
    axes = new_axes(bar_height(len(known)))
    for row, (_, split) in enumerate(known):
        parts = [split.queue.median, split.compute.median, split.wire.median]
        total = sum(parts) or 1.0
        shares = [100 * part / total for part in parts]
        _stack(axes, row, shares, PARTS, [f"{part:.3g}" for part in parts], [BACK] * len(parts))
        axes.annotate(f"{total:.3g} ms", (100, row), (5, 0), textcoords="offset points", va="center")
    for name, colour in zip(("queue", "compute", "wire"), PARTS, strict=True):
        axes.barh(0, 0, color=colour, label=name)
    _rows(axes, [shown for shown, _ in known], "share of a call's mean time, % (milliseconds in the bars)")
    axes.set_xlim(0, 116)
    axes.set_xticks(range(0, 101, 20))
    legend_above(axes, 3)
    return axes


def batch_sizes(view: View) -> Axes | None:
    """Shares of the batches by rows; None where the server's metrics are not known."""
    known = [(shown, shown.busy.batch_rows) for shown in view.models if shown.busy is not None and any(shown.busy.batch_rows.values())]
    if not known:
        return None
    buckets = [name for name in known[0][1] if any(rows.get(name) for _, rows in known)]
    colours = [STEPS[min(MOST_STEPS - 1, index * MOST_STEPS // max(1, len(buckets)))] for index in range(len(buckets))]
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
    names = []
    for bucket in buckets:
        below = every[every.index(bucket) - 1] if every.index(bucket) else "0"
        first = int(below) + 1
        names.append(f"> {below}" if bucket == "more" else bucket if first == int(bucket) else f"{first}-{bucket}")
    return names


def _stack(axes: Axes, row: int, shares: Sequence[float], colours: Sequence[str], texts: Sequence[str], inks: Sequence[str]) -> None:
    left = 0.0
    for share, colour, text, ink in zip(shares, colours, texts, inks, strict=True):
        axes.barh(row, share, 0.62, left=left, color=colour, edgecolor=BACK, linewidth=0.8)
        if share >= 100 * READABLE:
            axes.text(left + share / 2, row, text, ha="center", va="center", color=ink, fontsize=10)
        left += share


def _rows(axes: Axes, models: Sequence[Shown], name: str) -> None:
    axes.set_yticks(range(len(models)), [shown.tick for shown in models])
    axes.set_ylim(len(models) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(name)
