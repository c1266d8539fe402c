"""The plane as a picture: for each load, how much is answered in time against how often it is right."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_bench.plane.record import MemberRecord, Plane, Point, mean
from resnet_bench.stats import mean_interval

COLUMNS = 4
INK, GRID, BACK = "#1a1c1f", "#c9ced6", "#ffffff"
AUTO, SECOND, ORACLE, MEMBER = "#c65a00", "#00805a", "#6b7280", "#0072b2"
DARK = {INK: "#e6e8eb", GRID: "#3a414b", BACK: "#14171b", AUTO: "#ff9d4d", SECOND: "#3fc79a", ORACLE: "#a3abb8", MEMBER: "#63b3ed"}
"""What each colour is where the reader's page is dark."""
SIZE = (3.1, 2.9)  # inches of a panel
ALL_FROM = 90.0  # percent in time: below, a panel begins at nothing


def save_picture(plane: Plane, path: Path, real: bool = False) -> Path:
    """Write an SVG or PNG, as the name says."""
    names = [load for load in plane.loads if plane.of(load, "auto", real)]
    rows = -(-len(names) // COLUMNS)
    figure = Figure((COLUMNS * SIZE[0], rows * SIZE[1] + 0.5), layout="constrained", facecolor=BACK)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for panel, load in zip(panels, names, strict=False):
        draw(panel, plane, load, real)
    for panel in panels[len(names) :]:
        panel.axis("off")
    panels[0].legend(fontsize=7, loc="lower left", labelcolor=INK, facecolor=BACK, edgecolor=GRID)
    figure.supxlabel("right answers of those in time, %", color=INK, fontsize=10)
    figure.supylabel("answered in time, %", color=INK, fontsize=10)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "resnet-bench"}):
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    if path.suffix == ".svg":
        path.write_text(themed(path.read_text(encoding="utf-8")), encoding="utf-8")
    return path


def themed(svg: str) -> str:
    """With colours that follow the reader's page: each is a variable with another value where that is dark."""
    light, dark = "", ""
    for number, (colour, other) in enumerate(DARK.items()):
        svg = svg.replace(colour, f"var(--c{number})")
        light, dark = f"{light}--c{number}:{colour};", f"{dark}--c{number}:{other};"
    style = f"<style>:root{{{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}</style>"
    return svg.replace(" <defs>", f" {style}\n <defs>", 1)


def draw(panel: Axes, plane: Plane, load: str, real: bool) -> None:
    """One load: members as a line from shallow to deep, and the three ways to choose."""
    fixed = [mean(plane.of(load, member.label, real)) for member in plane.members]
    xs, ys = [100 * accuracy for _, accuracy in fixed], [100 * in_time for in_time, _ in fixed]
    panel.plot(xs, ys, "-o", color=MEMBER, linewidth=1, markersize=5, label="one network")
    for member in plane.members:
        spread(panel, plane.of(load, member.label, real), MEMBER)
    for member, x, y in zip(plane.members, xs, ys, strict=True):
        panel.annotate(short(member), (x, y), xytext=(4, -9), textcoords="offset points", fontsize=7, color=MEMBER)
    for method, marker, colour in (("every second", "s", SECOND), ("oracle", "*", ORACLE), ("auto", "D", AUTO)):
        if points := plane.of(load, method, real):
            in_time, accuracy = mean(points)
            size = 10 if method == "oracle" else 7
            panel.plot([100 * accuracy], [100 * in_time], marker, color=colour, markersize=size, label=method)
            spread(panel, points, colour)
    panel.set_title(load, fontsize=10, color=INK)
    panel.set_facecolor(BACK)
    panel.spines[:].set_color(GRID)
    panel.set_ylim(*span(plane, load, real))
    panel.margins(x=0.18)
    panel.grid(color=GRID, linewidth=0.5)
    panel.tick_params(labelsize=8, colors=INK)


def span(plane: Plane, load: str, real: bool) -> tuple[float, float]:
    """Percent in time that are shown: all, or only the upper end where everything is there."""
    least = 100 * min(mean([point])[0] for point in plane.points if (point.load, point.real) == (load, real))
    low = -4.0 if least < ALL_FROM else least - 0.2 * (100 - least) - 0.2
    return low, 100 + 0.06 * (100 - low)


def spread(panel: Axes, points: Sequence[Point], colour: str) -> None:
    """The 95 % intervals of both means over seeds, where there are enough."""
    in_time, accuracy = mean(points)
    high, wide = mean_interval([point.in_time for point in points]), mean_interval([point.accuracy for point in points])
    if high is None or wide is None:
        return
    panel.plot([100 * accuracy] * 2, [100 * end for end in high], color=colour, linewidth=1)
    panel.plot([100 * end for end in wide], [100 * in_time] * 2, color=colour, linewidth=1)


def short(member: MemberRecord) -> str:
    """As it stands beside a point."""
    return f"{member.depth}" if member.precision == "fp32" else f"{member.depth} {member.precision}"
