"""Command line `resnet-bench`."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_bench.depths import Comparison, Plan, find_subjects
from resnet_bench.errors import BenchError
from resnet_bench.limit.command import limit
from resnet_bench.schema import Report, this_machine
from resnet_bench.server_process import Target, started
from resnet_bench.table import depth_table

INTERRUPTED = 130


class Numbers(click.ParamType[tuple[int, ...]]):
    """Positive whole numbers, separated by commas."""

    name = "N,N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse, or fail with what was expected."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < 1:
            self.fail(f"'{value}'; expected positive whole numbers separated by commas", param, ctx)
        return numbers


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Compare published networks by latency, throughput, accuracy and cost."""


main.add_command(limit)


@main.command()
@click.option("--repository", type=click.Path(path_type=Path), help="Published models; a server is started on them unless --url is given.")
@click.option("--url", help="host:port of a running resnet-server.")
@click.option("--models", default="", help="Comma-separated names  [default: all]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For the server that is started.")
@click.option("--precision", type=click.Choice(["auto", "fp32", "fp16", "int8"]), default="auto", help="For the server that is started.")
@click.option("--concurrency", type=Numbers(), default="1,16", help="Calls in flight.")
@click.option("--rows", type=Numbers(), default="1,32", help="Images a call.")
@click.option("--duration", type=click.FloatRange(0.1), default=3.0, help="Seconds of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Interleaved over all models.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for results.json.")
def depths(
    repository: Path | None,
    url: str | None,
    models: str,
    device: str,
    precision: str,
    concurrency: tuple[int, ...],
    rows: tuple[int, ...],
    duration: float,
    repeats: int,
    out: Path | None,
) -> None:
    """Compare depths under closed-loop load, beside raw ONNX Runtime of the same files."""
    if repository is None and url is None:
        raise click.UsageError("give --repository, --url or both")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    plan = Plan(concurrency, rows, repeats, duration, cores)
    names = tuple(name.strip() for name in models.split(",") if name.strip())
    options = ("--device", device, "--precision", precision, "--models", ",".join(names))
    server: AbstractContextManager[Target]
    server = nullcontext(Target(url)) if url else started(repository or Path(), options)
    try:
        with server as target:
            finish(compare(target, plan, names, repository), out)
    except BenchError as error:
        raise click.ClickException(str(error)) from None


def compare(target: Target, plan: Plan, names: tuple[str, ...], repository: Path | None) -> Report:
    """Run the comparison behind a progress bar; an interrupted one gives what was measured."""
    comparison = Comparison(target, plan, find_subjects(target, names, repository))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    complete = True
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=comparison.steps)
        begun = [0]

        def on_step(text: str) -> None:
            bar.update(task, completed=begun[0], description=text)
            begun[0] += 1

        try:
            comparison.run(on_step)
        except KeyboardInterrupt:
            complete = False
    command = " ".join(["resnet-bench", *sys.argv[1:]])
    return Report(command, this_machine(plan.cores), plan.repeats, plan.seconds, comparison.results(), complete)


def finish(report: Report, out: Path | None) -> None:
    """Print the table, save the results, and exit with 130 if the run was interrupted."""
    width = None if sys.stdout.isatty() else 150
    Console(width=width, markup=False, highlight=False).print(depth_table(report))
    if out is not None:
        click.echo(f"saved: {report.save(out)}")
    if not report.complete:
        click.echo(f"interrupted: what was measured is {'shown' if out is None else 'shown and saved'}", err=True)
        sys.exit(INTERRUPTED)
