"""A plan as people read it."""

import io
import logging
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from resnet_server.engines.api import RUNTIME_NAMES
from resnet_server.planning.plan import Plan, Trial
from resnet_server.planning.planner import Planned

log = logging.getLogger(__name__)

WIDTH = 120


def plan_table(title: str, plan: Plan) -> Table:
    """Images a second by layout and rows of a batch; the plan's own cell is marked."""
    trials = [trial for trial in plan.trials if not trial.wide]
    sizes = sorted({trial.rows for trial in trials})
    table = Table(title=title, caption=sentence(plan), title_justify="left", caption_justify="left")
    table.add_column("precision")
    table.add_column("runtime")
    table.add_column("engines x threads")
    for size in sizes:
        table.add_column(f"{size} rows", justify="right")
    for layout in dict.fromkeys(trial.layout for trial in trials):
        cells = {trial.rows: trial for trial in trials if trial.layout == layout}
        precision, engines, threads, runtime = layout
        row = [cell(cells.get(size), layout == plan.layout and size == plan.batch) for size in sizes]
        table.add_row(precision, RUNTIME_NAMES[runtime], f"{engines} x {threads}", *row)
    return table


def cell(trial: Trial | None, taken: bool) -> str:
    """Images a second; `-` if it was not tried."""
    if trial is None:
        return "-"
    return f"{'* ' if taken else ''}{trial.throughput:,.0f}/s"


def sentence(plan: Plan) -> str:
    """The plan in words."""
    wide = f"; a lone image runs on {plan.wide_threads} threads in {1e3 * plan.wide_seconds:.2f} ms" if plan.wide_threads else ""
    return f"* {plan.engines} x {plan.threads} in {plan.precision} on {RUNTIME_NAMES[plan.runtime]}: {plan.reason}{wide}"


def lines(table: Table) -> Iterable[str]:
    """The table as plain text."""
    text = io.StringIO()
    Console(file=text, width=WIDTH, markup=False, highlight=False).print(table)
    return text.getvalue().splitlines()


def log_plan(name: str, version: str, planned: Planned) -> None:
    """The plan as a table in the log."""
    origin = "kept from an earlier start" if planned.cached else "measured now"
    for line in lines(plan_table(f"{name} version {version}: plan, {origin}", planned.plan)):
        log.info("%s", line.rstrip())
