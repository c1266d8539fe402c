"""`resnet-bench compare`."""

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from resnet_bench.compare.changes import changes, differences, lost, pairs
from resnet_bench.compare.verdict import LEAST_REPEATS, Change
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.reading import read_report
from resnet_bench.report.wording import shown
from resnet_bench.schema import Report, Spread

PATH = click.Path(path_type=Path)
WORDS = {"better": "BETTER", "worse": "WORSE", "same": "within noise", "unknown": "one repeat: unknown"}


@click.command()
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
@click.option("--all", "show_all", is_flag=True, help="Show what is within noise, too.")
@click.option("--fail-on-regression", is_flag=True, help="Exit with status 1 if anything is worse.")
@one_line_errors
def compare(before: Path, after: Path, show_all: bool, fail_on_regression: bool) -> None:
    """Say what changed from BEFORE to AFTER, two results.json, and whether it is more than noise.

    More than noise: the ranges of the repeats do not overlap, and the medians differ by more than 2 %.
    """
    first, second = read_report(before), read_report(after)
    if not pairs(first, second):
        raise BenchError(f"models: {before} and {after} have none in common")
    found, worse = changes(first, second), lost(first, second)
    show(first, second, found, worse, show_all)
    count = sum(change.verdict == "worse" for change in found) + len(worse)
    if fail_on_regression and count:
        click.echo(f"regression: {count} figures are worse by more than noise", err=True)
        sys.exit(1)


def show(before: Report, after: Report, found: list[Change], worse: list[str], show_all: bool) -> None:
    """Print the table, what else is worse, and what makes the two hard to compare."""
    console = Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False)
    wanted = [change for change in found if show_all or change.verdict in ("better", "worse")]
    if wanted:
        console.print(change_table(wanted))
    quiet = len(found) - len(wanted)
    if min(before.repeats, after.repeats) < LEAST_REPEATS:
        console.print("a result with one repeat has no spread: no change can be told from noise")
    elif quiet:
        console.print(f"{quiet} of {len(found)} figures are within noise" + ("" if wanted else ": nothing changed"))
    for text in worse:
        console.print(f"WORSE: {text}")
    for text in differences(before, after):
        console.print(f"not the same: {text}")


def change_table(found: list[Change]) -> Table:
    """A row for each change."""
    table = Table()
    for name in ("model", "figure", "before", "after", "factor", "verdict"):
        table.add_column(name, justify="right" if name in ("before", "after", "factor") else "left")
    for change in found:
        before, after = figure(change.before), figure(change.after)
        table.add_row(change.model, change.figure, before, after, f"{change.factor:.2f}", WORDS[change.verdict])
    return table


def figure(spread: Spread) -> str:
    """The figure with digits for its size."""
    return shown(spread, 3 if spread.median < 1 else 2 if spread.median < 100 else 0)
