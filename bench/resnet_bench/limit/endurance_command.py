"""`resnet-bench soak` and `resnet-bench overload`."""

from pathlib import Path

import click

from resnet_bench.limit.command import FOLDER, PRECISIONS
from resnet_bench.limit.options import available_cores, finish, one_line_errors, with_progress
from resnet_bench.limit.overload import Overload, Overloading, overload_markdown, overload_table
from resnet_bench.limit.soak import PARTS, Soak, Soaking, soak_markdown, soak_table
from resnet_bench.options import Seconds

REPOSITORY = click.Path(path_type=Path)


@click.command()
@click.option("--repository", type=REPOSITORY, required=True, help="Published models.")
@click.option("--model", default="resnet20", help="Which network.")
@click.option("--precision", type=PRECISIONS, default="auto", help="auto: as the server chooses.")
@click.option("--requests", type=click.IntRange(1), default=1_000_000, help="Calls in all.")
@click.option("--in-flight", type=click.IntRange(1), default=64, help="Calls open at any time.")
@click.option("--rows", type=click.IntRange(1), default=1, help="Images a call.")
@click.option("--out", type=FOLDER, help="Folder for soak.json and soak.md.")
def soak(repository: Path, model: str, precision: str, requests: int, in_flight: int, rows: int, out: Path | None) -> None:
    """Watch the server's memory over a million requests from h2load."""
    with one_line_errors():
        soaking = Soaking(Soak(repository, model, precision, requests, in_flight, rows))
        complete = with_progress(soaking.measure, PARTS)
        report = soaking.report(available_cores(), complete)
        finish(report, soak_table(report), soak_markdown(report), report.problems, complete, out, "soak")


@click.command()
@click.option("--repository", type=REPOSITORY, required=True, help="Published models.")
@click.option("--model", default="resnet56", help="Which network; a cheap one needs more calls than the generator can send.")
@click.option("--precision", type=PRECISIONS, default="fp32", help="auto: as the server chooses.")
@click.option("--rows", type=click.IntRange(1), default=8, help="Images a call; fewer cost the generator more.")
@click.option("--in-flight", type=click.IntRange(1), default=16, help="Calls open while the capacity is measured.")
@click.option("--factor", type=click.FloatRange(0.1), default=3.0, help="Load over capacity.")
@click.option("--deadline", type=Seconds(), default="50ms", help="Of each call.")
@click.option("--duration", type=click.FloatRange(0.1), default=5.0, help="Seconds of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Capacity and overload in turn.")
@click.option("--out", type=FOLDER, help="Folder for overload.json and overload.md.")
def overload(
    repository: Path,
    model: str,
    precision: str,
    rows: int,
    in_flight: int,
    factor: float,
    deadline: float,
    duration: float,
    repeats: int,
    out: Path | None,
) -> None:
    """Send several times the capacity, open loop with a deadline: how much is answered in time, and how late."""
    with one_line_errors():
        overloading = Overloading(Overload(repository, model, precision, rows, in_flight, factor, deadline, duration, repeats))
        complete = with_progress(overloading.measure, 2 * repeats)
        report = overloading.report(available_cores(), complete)
        finish(report, overload_table(report), overload_markdown(report), report.problems, complete, out, "overload")
