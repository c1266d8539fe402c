"""Figures of one look, in colours that hold on a light and on a dark page, and their SVG.

Plots are drawn in stand-in colours, which become CSS variables in the SVG; the page gives the variables their values, one set for
light and one for dark. Models take steps of a sequential scale (matplotlib's plasma, which stays ordered without colour vision),
as depth is ordered; nothing is told by colour alone, since every mark is labelled or has its own shape.
"""

import io
import re
from collections.abc import Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

INK, QUIET, BACK = "#000001", "#000002", "#000003"
PARTS = ("#000011", "#000012", "#000013")
MOST_SERIES, MOST_STEPS = 12, 10
SERIES = tuple(f"#0001{index:02x}" for index in range(MOST_SERIES))
STEPS = tuple(f"#0002{index:02x}" for index in range(MOST_STEPS))
MARKERS = "osD^vPX*<>hd"
NAMES = {
    INK: "ink",
    QUIET: "quiet",
    BACK: "back",
    **{colour: f"part{index}" for index, colour in enumerate(PARTS)},
    **{colour: f"series{index}" for index, colour in enumerate(SERIES)},
    **{colour: f"step{index}" for index, colour in enumerate(STEPS)},
}
# ink, quiet, back, and three parts (Okabe and Ito's blue, orange and green, darkened or lightened to 3:1 against the page)
LIGHT = ("#1a1c1f", "#c9ced6", "#ffffff", "#0072b2", "#c65a00", "#00805a")
DARK = ("#e8eaed", "#4a5058", "#15181c", "#56b4e9", "#f0a030", "#35c79a")
LIGHT_RANGE, DARK_RANGE = (0.0, 0.65), (0.45, 0.97)
LIGHT_STEPS, DARK_STEPS = (0.3, 1.0), (0.9, 0.2)  # of the scale "Blues": few rows stand back, many stand out

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
Box = tuple[float, float, float, float]
OFFSETS = (
    (-8, 10, "right"),  # above and left of a point no better one can be: the Pareto front never passes there
    (9, -10, "left"),
    *((x, y, side) for y in (0, 12, -12, 24, -24, 36, -36) for x, side in ((9, "left"), (-9, "right"))),
)


def variables(models: int, dark: bool) -> str:
    """CSS declarations for a page with so many models."""
    low, high = DARK_RANGE if dark else LIGHT_RANGE
    first, last = DARK_STEPS if dark else LIGHT_STEPS
    values = dict(zip((INK, QUIET, BACK, *PARTS), DARK if dark else LIGHT, strict=True))
    values.update({colour: _shade("plasma", low, high, index, models) for index, colour in enumerate(SERIES)})
    values.update({colour: _shade("Blues", first, last, index, MOST_STEPS) for index, colour in enumerate(STEPS)})
    return " ".join(f"--{NAMES[colour]}: {value};" for colour, value in values.items())


def _shade(scale: str, low: float, high: float, index: int, count: int) -> str:
    return to_hex(colormaps[scale](low + min(1.0, index / max(1, count - 1)) * (high - low)))


def new_axes(height: float = 4.0) -> Axes:
    """Axes of a new figure, `height` inches high."""
    return Figure(figsize=(WIDTH, height), layout="constrained").add_subplot()


def bar_height(bars: int) -> float:
    """Inches for so many rows of bars."""
    return 1.5 + 0.42 * bars


def svg_of(axes: Axes, title: str) -> str:
    """The figure as an SVG element without a fixed size; `title` is what a screen reader says."""
    buffer = io.StringIO()
    _figure(axes).savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for attribute in ("width", "height"):
        text = re.sub(rf'(<svg[^>]*?) {attribute}="[^"]*"', r"\1", text, count=1)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = text.replace("<svg", f'<svg role="img" aria-label="{title}"', 1).replace("'DejaVu Sans'", "system-ui")
    return re.sub("|".join(NAMES), lambda match: f"var(--{NAMES[match[0]]})", text)


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None  # noqa: S101  # `new_axes` made it
    return figure


def legend_above(axes: Axes, columns: int) -> None:
    """The legend above the axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, borderaxespad=0.2, handletextpad=0.5, columnspacing=1.4)


def logarithmic(axes: Axes, which: str) -> None:
    """A logarithmic axis with plain numbers."""
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(NullFormatter())
    axes.grid(visible=True, which="major", color=QUIET)


def label_points(axes: Axes, points: Sequence[tuple[float, float]], texts: Sequence[str], colours: Sequence[str]) -> None:
    """Write each text beside its point, where it covers no other text or point if there is such a place."""
    _figure(axes).draw_without_rendering()
    scale = 72 / _figure(axes).dpi
    places = [(scale * x, scale * y) for x, y in (axes.transData.transform(point) for point in points)]
    frame = axes.get_window_extent()
    inside = (scale * frame.x0, scale * frame.y0, scale * frame.x1, scale * frame.y1)
    taken: list[Box] = [(x - 5, y - 5, x + 5, y + 5) for x, y in places]
    for place, point, text, colour in zip(places, points, texts, colours, strict=True):
        dx, dy, side = min(OFFSETS, key=lambda offset: _badness(_box(place, LETTER * len(text), offset), taken, inside))
        taken.append(_box(place, LETTER * len(text), (dx, dy, side)))
        note = axes.annotate(text, point, (dx, dy), textcoords="offset points", ha=side, va="center", color=colour, annotation_clip=False)
        note.set_gid(HALO)


def _box(place: tuple[float, float], width: float, offset: tuple[int, int, str]) -> Box:
    dx, dy, side = offset
    left = place[0] + dx - (width if side == "right" else 0)
    return left, place[1] + dy - LINE / 2, left + width, place[1] + dy + LINE / 2


def _badness(box: Box, taken: Sequence[Box], inside: Box) -> float:
    covered = sum(
        max(0.0, min(box[2], other[2]) - max(box[0], other[0])) * max(0.0, min(box[3], other[3]) - max(box[1], other[1])) for other in taken
    )
    return covered + LINE * (max(0.0, inside[0] - box[0]) + max(0.0, box[2] - inside[2]))
