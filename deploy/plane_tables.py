"""Tables of the pages that tell what a group reaches, by the simulator and on a server."""

from collections.abc import Callable
from pathlib import Path

from resnet_bench.plane.record import Plane, load_plane, mean

from deploy.markdown import markdown

ROOT = Path(__file__).parents[1]
PLANE, PLANE_SERVED = (ROOT / "docs" / "results" / name / "results.json" for name in ("2026-11-29-auto", "2026-11-29-auto-served"))
UNTRAINED = PLANE_SERVED.parent / "before" / "results.json"  # the later run did not ask untrained networks


def in_percent(plane: Plane, load: str, method: str, real: bool = False) -> str:
    """In time / right."""
    in_time, right = mean(plane.of(load, method, real))
    return f"{100 * in_time:.1f} / {100 * right:.2f}"


def depth_plane() -> str:
    """In time and right, by load: the group, the fixed network that does best, and the bound, with differences."""
    plane, rows = load_plane(PLANE), []
    for name in plane.loads:
        best = plane.best_static(name)
        auto, fixed, second, bound = (in_percent(plane, name, method) for method in ("auto", best, "every second", "oracle"))
        gains = (plane.gain(name, best).points, plane.gain(name, "oracle").reversed.points)
        rows.append([name, auto, f"{fixed} ({best.split()[0]})", gains[0], second, bound, gains[1]])
    return markdown(("load", "auto", "best fixed network", "auto over it", "chosen every second", "bound", "bound over auto"), rows)


def depth_plane_served() -> str:
    """The same calls to a server and through the simulator."""
    plane, rows = load_plane(PLANE_SERVED), []
    for name in plane.loads:
        best = plane.best_static(name, real=True)
        auto, fixed = (in_percent(plane, name, method, real=True) for method in ("auto", best))
        gain = plane.gain(name, best, real=True).points
        rows.append([name, auto, in_percent(plane, name, "auto"), f"{fixed} ({best.split()[0]})", in_percent(plane, name, best), gain])
    columns = ("load", "auto, served", "auto, simulated", "best fixed network, served", "that, simulated", "auto over it, served")
    return markdown(columns, rows)


def untrained() -> str:
    """What networks with random weights take."""
    rows = [
        (f"{one.name}, random weights", one.precision, f"{1e3 * one.median:.0f} ms", f"{1e3 * one.p99:.0f} ms", f"{one.calls}")
        for one in load_plane(UNTRAINED).untrained
    ]
    return markdown(("network", "precision", "single image, median", "p99", "calls"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "depth-plane": depth_plane,
    "depth-plane-served": depth_plane_served,
    "untrained": untrained,
}
