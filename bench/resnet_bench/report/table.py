"""The comparison in a terminal."""

import sys

from rich.console import Console
from rich.table import Table

from resnet_bench.report import wording
from resnet_bench.schema import ModelResult, Point, Report

MODELS = (
    "model",
    "accuracy",
    "M param",
    "M mult-add",
    "raw img/s",
    "one call p50",
    "p99 ms",
    "capacity img/s",
    "of raw",
    "p99 at 50 %",
    "p99 at 80 %",
    "CPU s/1000",
    "MiB",
)
LOADS = ("model", "load", "img/s", "of raw", "good", "p50 ms", "p90 ms", "p99 ms", "CPU s/1000")


def print_report(report: Report) -> None:
    """Print all tables and notes."""
    console = Console(width=None if sys.stdout.isatty() else 190, markup=False, highlight=False)
    console.print(model_table(report))
    loads = load_table(report)
    if loads.row_count:
        console.print(loads)
    for note in wording.notes(report):
        console.print(note)


def model_table(report: Report) -> Table:
    """A row for each model: medians, and half the range of the repeats."""
    machine = report.machine
    title = (
        f"{machine.processor}, {machine.cores} cores; SLO {1e3 * report.slo:g} ms at p99; {report.rows} images a call; median of "
        f"{report.repeats} x {report.seconds:g} s, half the range of the repeats beside it"
    )
    table = Table(title=title, title_justify="left", caption="" if report.complete else "incomplete: not all repeats were made")
    for index, name in enumerate(MODELS):
        table.add_column(name, justify="right" if index else "left")
    for label, model in zip(wording.labels(report), report.models, strict=True):
        table.add_row(label, *model_figures(model))
    return table


def model_figures(model: ModelResult) -> tuple[str, ...]:
    """The figures of a row, as text."""
    facts, alone, busy, half = model.facts, model.point("single"), model.point("busy"), model.point("half")
    efficiency = model.capacity.efficiency if model.capacity else None
    return (
        wording.accuracy(model),
        wording.millions(facts.parameters, 2),
        wording.millions(facts.multiply_adds, 1),
        wording.shown(model.raw_throughput, wording.digits_of(model.raw_throughput)),
        wording.milliseconds(alone.p50_ms if alone else None),
        wording.milliseconds(alone.p99_ms if alone else None),
        wording.capacity(model),
        wording.shown(efficiency, 2),
        wording.milliseconds(half.p99_ms if half else None),
        wording.milliseconds(busy.p99_ms if busy else None),
        wording.shown(busy.cpu_seconds if busy else None, 3),
        wording.mebibytes(model.memory_bytes),
    )


def load_table(report: Report) -> Table:
    """A row for each load that was asked for by name."""
    table = Table()
    for index, name in enumerate(LOADS):
        table.add_column(name, justify="right" if index > 1 else "left")
    for label, model in zip(wording.labels(report), report.models, strict=True):
        for point in model.points:
            if point.kind in ("rate", "closed"):
                table.add_row(label, point.load, *load_figures(point))
    return table


def load_figures(point: Point) -> tuple[str, ...]:
    """The figures of one load, as text."""
    return (
        wording.shown(point.throughput, wording.digits_of(point.throughput)),
        wording.shown(point.efficiency, 2),
        f"{100 * point.goodput.median:.1f} %",
        wording.milliseconds(point.p50_ms),
        wording.milliseconds(point.p90_ms),
        wording.milliseconds(point.p99_ms),
        wording.shown(point.cpu_seconds, 3),
    )
