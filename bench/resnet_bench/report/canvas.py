"""Figures of one look, and their SVG for a page."""

import io
import re
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_bench.report.palette import BACK, INK, QUIET, themed

WIDTH = 6.4  # inches of 72 points: small enough that text stays readable on a telephone
STYLE: dict[str, object] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "resnet-bench",
    "font.family": "DejaVu Sans",
    "font.size": 12.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "lines.markeredgecolor": BACK,
}
HALO = "halo"  # texts with this id stand out from lines below them, see the style sheet
LETTER, LINE = 7.0, 14.0  # width and height of text in points, for placing labels


def new_axes(height: float = 4.0) -> Axes:
    """Axes of a new figure, `height` inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained").add_subplot()


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  # `new_axes` made it
    return figure


def bar_height(bars: int) -> float:
    """Inches for so many rows of bars."""
    return 1.5 + 0.42 * bars


def svg_of(axes: Axes, title: str) -> str:
    """The figure as an SVG element without a fixed size; `title` is what a screen reader says."""
    buffer = io.StringIO()
    _figure(axes).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", text, count=1), count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1)
    return themed(text.replace("'DejaVu Sans'", "system-ui"))


def legend_above(axes: Axes, columns: int) -> None:
    """The legend above the axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2, handletextpad=0.5, columnspacing=1.4)


def label_points(axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write each text beside its point, where it covers no other text or point if there is such a place."""
    _figure(axes).draw_without_rendering()
    scale = 72 / _figure(axes).dpi
    places = [tuple(scale * value for value in axes.transData.transform(point)) for point in points]
    frame = axes.get_window_extent()
    inside = (scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for place, point, text, colour in zip(places, points, texts, colours, strict=True):
        dx, dy, side = _best_offset(place, LETTER * len(text), taken, inside)
        taken.append(_box(place, LETTER * len(text), (dx, dy, side)))
        note = axes.annotate(text, point, (dx, dy), textcoords="offset points", ha=side, va="center", color=colour, annotation_clip=False)
        note.set_gid(HALO)


Box = tuple[float, ...]
Offset = tuple[float, float, str]
OFFSETS: tuple[Offset, ...] = (
    (-8, 10, "right"),  # above and left of a point no better one can be: the Pareto front never passes there
    (9, -10, "left"),
    *((x, y, side) for y in (0, 12, -12, 24, -24, 36, -36) for x, side in ((9, "left"), (-9, "right"))),
)


def _box(place: tuple[float, ...], width: float, offset: Offset) -> Box:
    dx, dy, side = offset
    left = place[0] + dx - (width if side == "right" else 0)
    return left, place[1] + dy - LINE / 2, left + width, place[1] + dy + LINE / 2


def _best_offset(place: tuple[float, ...], width: float, taken: Sequence[Box], inside: Box) -> Offset:
    def badness(offset: Offset) -> tuple[float, int]:
        box = _box(place, width, offset)
        covered = sum(_overlap(box, other) for other in taken)
        outside = max(0.0, inside[0] - box[0]) + max(0.0, box[2] - inside[2])
        return covered + LINE * outside, OFFSETS.index(offset)

    return min(OFFSETS, key=badness)


def _overlap(one: Box, other: Box) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
