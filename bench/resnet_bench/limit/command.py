"""`resnet-bench limit`."""

import sys
from pathlib import Path

import click

from resnet_bench.errors import BenchError
from resnet_bench.limit.grid import Budget, Grid, Work
from resnet_bench.limit.options import available_cores, finish, one_line_errors, with_progress
from resnet_bench.limit.published import names_in
from resnet_bench.limit.random_weights import SERVE_ANYWAY, ensure_random
from resnet_bench.limit.results import LimitReport
from resnet_bench.limit.table import limit_markdown, limit_table
from resnet_bench.options import Names, Numbers
from resnet_bench.schema import this_machine

PRECISIONS = click.Choice(["auto", "fp32", "fp16", "int8"])
LEAST = 0.95  # of raw, by the project's targets
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--repository", type=click.Path(path_type=Path), required=True, help="Published models.")
@click.option("--preset", type=click.Choice(["targets"]), help="What the server is to reach of raw, instead of the loads below.")
@click.option("--random-weights", type=FOLDER, help="With --preset: folder for untrained resnet18 and resnet50, made if absent; adds them.")
@click.option("--models", type=Names(), default="", help="Comma-separated names  [default: all]")
@click.option("--precision", type=PRECISIONS, default="auto", help="Of server and raw alike; auto: as the server chooses.")
@click.option("--in-flight", type=Numbers(), default="1,16,64,256", help="Calls open at any time.")
@click.option("--rows", type=Numbers(), default="1,8,32", help="Images a call.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="Of server and raw alike.")
@click.option("--duration", type=click.FloatRange(0.1), default=3.0, help="Seconds of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Raw and served in turn.")
@click.option("--allow-uncertified", is_flag=True, help="Measure networks whose certificate does not hold, too.")
@click.option("--out", type=FOLDER, help="Folder for limit.json and limit.md.")
def limit(
    repository: Path,
    preset: str | None,
    random_weights: Path | None,
    models: tuple[str, ...],
    precision: str,
    in_flight: tuple[int, ...],
    rows: tuple[int, ...],
    device: str,
    duration: float,
    repeats: int,
    allow_uncertified: bool,
    out: Path | None,
) -> None:
    """Compare the server with raw in-process ONNX Runtime on the same cores, under closed-loop load from h2load."""
    loads = tuple((open_calls, images) for images in rows for open_calls in in_flight)
    options = ("--device", device, *(SERVE_ANYWAY if allow_uncertified else ()))
    with one_line_errors():
        if random_weights is not None and preset is None:
            raise BenchError("--random-weights: only --preset targets uses it; expected both")
        if preset is not None:
            works = targets(repository, random_weights, options)
        else:
            works = tuple(Work(repository, name, precision, loads, None, options) for name in models or names_in(repository))
        report = measure(works, Budget(repeats, duration, available_cores()))
        finish(report, limit_table(report), limit_markdown(report), report.problems, report.complete, out, "limit")


def targets(repository: Path, random_weights: Path | None, options: tuple[str, ...]) -> tuple[Work, ...]:
    """Where overhead must not count: networks of 224x224 in singles, untrained, and resnet20 with 32 rows a call."""
    works = [Work(repository, "resnet20", precision, ((16, 32),), LEAST, options) for precision in ("fp32", "auto")]
    if random_weights is not None:
        for model in ("resnet18", "resnet50"):
            ensure_random(random_weights, model, ("fp32",))
            works.append(Work(random_weights, model, "fp32", ((16, 1),), LEAST, (*options, *SERVE_ANYWAY)))
    return tuple(works)


def measure(works: tuple[Work, ...], budget: Budget) -> LimitReport:
    """Run the grid; an interrupted one gives what was measured."""
    grid = Grid(works, budget)
    complete = with_progress(grid.measure, grid.steps)
    command = " ".join(["resnet-bench", *sys.argv[1:]])
    return LimitReport(command, this_machine(budget.cores), budget.repeats, budget.seconds, grid.cells(), tuple(grid.problems), complete)
