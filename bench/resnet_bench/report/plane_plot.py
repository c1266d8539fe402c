"""The plane as a picture: for each load, how much is answered in time against how often it is right."""

from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from resnet_bench.plane.record import MemberRecord, Plane, mean

COLUMNS = 4
INK, GRID, BACK = "#1a1c1f", "#c9ced6", "#ffffff"
AUTO, SECOND, ORACLE, MEMBER = "#c65a00", "#00805a", "#6b7280", "#0072b2"
SIZE = (3.1, 2.9)  # inches of a panel


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
    panels[0].legend(fontsize=7, loc="lower right")
    figure.supxlabel("right answers of those in time, %", color=INK, fontsize=10)
    figure.supylabel("answered in time, %", color=INK, fontsize=10)
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "resnet-bench"}):
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path


def draw(panel: Axes, plane: Plane, load: str, real: bool) -> None:
    """One load: members as a line from shallow to deep, and the three ways to choose."""
    fixed = [mean(plane.of(load, member.label, real)) for member in plane.members]
    xs, ys = [100 * accuracy for _, accuracy in fixed], [100 * in_time for in_time, _ in fixed]
    panel.plot(xs, ys, "-o", color=MEMBER, linewidth=1, markersize=5, label="one network")
    for member, x, y in zip(plane.members, xs, ys, strict=True):
        panel.annotate(short(member), (x, y), xytext=(4, -9), textcoords="offset points", fontsize=7, color=MEMBER)
    for method, marker, colour in (("every second", "s", SECOND), ("oracle", "*", ORACLE), ("auto", "D", AUTO)):
        if points := plane.of(load, method, real):
            in_time, accuracy = mean(points)
            size = 10 if method == "oracle" else 7
            panel.plot([100 * accuracy], [100 * in_time], marker, color=colour, markersize=size, label=method)
    panel.set_title(load, fontsize=10, color=INK)
    panel.set_ylim(-4, 106)
    panel.margins(x=0.18)
    panel.grid(color=GRID, linewidth=0.5)
    panel.tick_params(labelsize=8)


def short(member: MemberRecord) -> str:
    """As it stands beside a point."""
    return f"{member.depth}" if member.precision == "fp32" else f"{member.depth} {member.precision}"
