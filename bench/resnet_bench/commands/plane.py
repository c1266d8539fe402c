"""`resnet-bench depths --group`: the plane of a group."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from resnet_server.routing.simulator import Workshop
from rich.table import Table

from resnet_bench.commands.shared import Bar, arguments, show
from resnet_bench.commands.untrained import measure_untrained
from resnet_bench.errors import INTERRUPTED, BenchError
from resnet_bench.machine import this_machine
from resnet_bench.plane.loads import LoadKind, loads
from resnet_bench.plane.parts import Begun, Parts, packed
from resnet_bench.plane.record import Plane, Point, mean
from resnet_bench.plane.served import GroupAt, Labelled, capacities, drive, group_at, read_labelled, right_answers, with_measured
from resnet_bench.plane.simulated import Right, arrivals_of, run
from resnet_bench.plane.teach import save_page
from resnet_bench.published import chosen
from resnet_bench.target import started

DEADLINE = 0.05
CALM_LOAD = 0.5
PLANS = "plans"


@dataclass(frozen=True)
class PlaneTask:
    """What is asked for: `group` is `NAME` or `NAME=MODEL,MODEL`; `seconds` of a trace; `real`: also sent to the server."""

    group: str
    repository: Path | None
    url: str | None
    labelled: Path | None
    deadline: float
    seconds: float
    seeds: int
    real: bool
    options: tuple[str, ...]
    precisions: tuple[str, ...] = ()
    random_weights: tuple[str, ...] = ()


def plane_of(task: PlaneTask, out: Path | None) -> None:
    """Measure, show and save. Raises BenchError or UsageError."""
    if task.real and task.labelled is None:
        raise click.UsageError("--real needs --labelled: images whose answers can be judged")
    kinds, problems, parts = loads(task.seconds), disturbances(), Parts(out, arguments())
    with Bar() as bar, going_on_later(parts, out):
        begun, points = ask_server(task, out, kinds, parts, bar)
        shop = Workshop(begun.engines, begun.batch, task.deadline)

        def simulated(trace: tuple[str, int], simulate: Callable[[], list[Point]]) -> list[Point]:
            bar.step(f"simulating {trace[0]}, seed {trace[1]}")
            return parts.simulated(trace, simulate)

        points += run(begun.members, shop, kinds, task.seeds, begun.answers, simulated)
        untrained = measure_untrained(task.random_weights, task.precisions, task.options, bar.step)
    members, texts = with_measured(begun.members, begun.answers), {kind.name: kind.text for kind in kinds}
    how = (begun.engines, begun.batch, task.deadline, begun.images)
    found = (tuple(points), texts, problems, tuple(untrained))
    plane = Plane(begun.group, begun.arguments, this_machine(), members, *how, *found)
    tables = [table(plane, real=False), *([table(plane, real=True)] if task.real else [])]
    show(*tables, *([untrained_table(plane)] if untrained else []), *problems)
    if out is not None:
        save(plane, out)
        parts.done()
        shutil.rmtree(out / PLANS, ignore_errors=True)


@contextmanager
def going_on_later(parts: Parts, out: Path | None) -> Iterator[None]:
    """An interrupt says that what was measured is kept, where it is."""
    try:
        yield
    except KeyboardInterrupt:
        if out is None or parts.begun is None:
            raise
        click.echo(f"interrupted: what was measured is kept in {out}; give the same command again to go on", err=True)
        sys.exit(INTERRUPTED)


def ask_server(task: PlaneTask, out: Path | None, kinds: Sequence[LoadKind], parts: Parts, bar: Bar) -> tuple[Begun, list[Point]]:
    """What a server says and, with `real`, what it makes of the traces; what an earlier run has found counts."""
    points: list[Point] = []
    if parts.begun is not None and not task.real:
        return parts.begun, points
    with served_group(task, out) as group:
        bar.expect(len(kinds) * task.seeds * (1 + task.real * (1 + len(group.members))))
        labelled = None if task.labelled is None else read_labelled(task.labelled)
        begun = parts.begun or parts.begin(begin(task, group, labelled, bar))
        if task.real and labelled is not None:
            shop = Workshop(begun.engines, begun.batch, task.deadline)
            points += drive_all(task, replace(group, members=begun.members), shop, kinds, labelled, bar, parts)
    return begun, points


def begin(task: PlaneTask, group: GroupAt, labelled: Labelled | None, bar: Bar) -> Begun:
    """What is asked of the server once, given images: right answers, and what each member can answer while it serves."""
    right: Right = {}
    members = group.members
    if labelled is not None:
        bar.step(f"asking each member for {len(labelled.images)} labelled images")
        right = right_answers(group, labelled)
        bar.step("measuring what each member can answer")
        members = capacities(group, labelled)
    images = 0 if labelled is None else len(labelled.images)
    return Begun(group.name, arguments(), members, group.engines, group.batch, images, packed(right))


def disturbances() -> tuple[str, ...]:
    """What a reader of the costs has to know."""
    busy = os.getloadavg()[0]
    if busy <= CALM_LOAD:
        return ()
    return (f"the machine was busy at the start (load average {busy:.1f}): costs may be too high, and real runs say little",)


@contextmanager
def served_group(task: PlaneTask, out: Path | None) -> Iterator[GroupAt]:
    """The group of a running server, or of one that is started for it; its plan stays in `out` for a run that goes on."""
    name, _, members = task.group.partition("=")
    if task.url is not None:
        yield group_at(task.url, name)
        return
    if task.repository is None:
        raise click.UsageError("--group needs --repository or --url")
    names = chosen(task.repository, tuple(filter(None, members.split(","))))
    with TemporaryDirectory(prefix="resnet-bench-plans-") as own:
        plans = own if out is None else str(out / PLANS)
        served = ("--group", f"{name}={','.join(names)}", "--models", name, "--plan-cache", plans)
        options = (*served, "--precision", ",".join(task.precisions) or "auto", *task.options)
        with started(task.repository, options) as target:
            yield group_at(target.url, name)


def drive_all(
    task: PlaneTask, group: GroupAt, shop: Workshop, kinds: Sequence[LoadKind], labelled: Labelled, bar: Bar, parts: Parts
) -> list[Point]:
    """Every load in real time, by `auto` and by each member alone; seed by seed, so that what is there early has all loads."""
    points = []
    for seed in range(task.seeds):
        for kind in kinds:
            arrivals = arrivals_of(group.members, shop, kind, seed)
            for method in ("auto", *(member.label for member in group.members)):
                bar.step(f"sending {kind.name}, seed {seed}, to {method}")
                measure = partial(drive, group, kind.name, method, seed, arrivals, task.deadline, labelled)
                points.append(parts.point((kind.name, method, seed), measure))
    return points


def table(plane: Plane, real: bool) -> Table:
    """In time and right, in percent, by load and way to choose; the best static choice is marked."""
    how = "a server" if real else "the simulator"
    accuracy = f"right answers on {plane.labelled} labelled images" if plane.labelled else "accuracy as certified"
    title = (
        f"{plane.group}: in time / {accuracy}, %, by {how}; deadline {1e3 * plane.deadline:g} ms; * best static choice; "
        "differences in points, over seeds [95 %]"
    )
    found = Table(title=title, title_justify="left")
    methods = ["auto", *([] if real else ["every second", "oracle"]), *(member.label for member in plane.members)]
    for column in ("load", *methods, "right: auto over *", *([] if real else ["oracle over auto"])):
        found.add_column(column, justify="left" if column == "load" else "right")
    for load in plane.loads:
        best = plane.best_static(load, real)
        cells = [mean(plane.of(load, method, real)) for method in methods]
        marks = ["*" if method == best else "" for method in methods]
        texts = [f"{mark}{100 * x:.1f} / {100 * y:.2f}" for mark, (x, y) in zip(marks, cells, strict=True)]
        gains = [plane.gain(load, best, real).points, *([] if real else [plane.gain(load, "oracle").reversed.points])]
        found.add_row(load, *texts, *gains)
    return found


def untrained_table(plane: Plane) -> Table:
    """What networks with random weights take."""
    found = Table(title="random weights: what they take is real, their answers say nothing; single images, ms", title_justify="left")
    for column in ("network", "precision", "layers", "median", "p99", "calls"):
        found.add_column(column, justify="left" if column in ("network", "precision") else "right")
    for one in plane.untrained:
        found.add_row(one.name, one.precision, str(one.depth), f"{1e3 * one.median:.1f}", f"{1e3 * one.p99:.1f}", str(one.calls))
    return found


def save(plane: Plane, folder: Path) -> None:
    """results.json, the page for readers, and the picture."""
    click.echo(f"saved: {plane.save(folder)}")
    click.echo(f"saved: {save_page(plane, folder / 'which-depth.html')}")
    try:
        from resnet_bench.report.plane_plot import save_picture  # matplotlib: only a picture needs it
    except ImportError as error:
        raise BenchError(f"plane.svg needs {error.name}: pip install 'resnet-serving[bench]'; results.json is saved") from None
    click.echo(f"saved: {save_picture(plane, folder / 'plane.svg')}")
    if any(point.real for point in plane.points):
        click.echo(f"saved: {save_picture(plane, folder / 'plane-real.svg', real=True)}")
