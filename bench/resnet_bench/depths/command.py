"""`resnet-bench depths`."""

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from resnet_bench.depths.comparison import Comparison
from resnet_bench.depths.plan import Plan
from resnet_bench.depths.serving import own_servers
from resnet_bench.depths.subject import Subject, find_subjects
from resnet_bench.depths.untrained import full_name, untrained_repository
from resnet_bench.errors import INTERRUPTED, BenchError, one_line_errors
from resnet_bench.load.generators import Generators
from resnet_bench.load.request import Tensor
from resnet_bench.load.spec import Arrivals
from resnet_bench.options import InputTensor, Names, Numbers, Rates, Seconds
from resnet_bench.progress import Bar
from resnet_bench.report.files import save_all
from resnet_bench.report.table import print_report
from resnet_bench.schema import Report, this_machine
from resnet_bench.server_process import Target

PRECISIONS = ("auto", "fp32", "fp16", "int8")


@dataclass(frozen=True)
class Where:
    """What is measured, and where it is served."""

    repository: Path | None
    url: str | None
    metrics_url: str | None
    models: tuple[str, ...]
    random_weights: tuple[str, ...]
    precisions: tuple[str, ...]
    server_options: tuple[str, ...]
    inputs: tuple[Tensor, ...]


@click.command(context_settings={"show_default": True})
@click.option("--repository", type=click.Path(path_type=Path), help="Published models; servers are started on them unless --url is given.")
@click.option("--random-weights", type=Names(), default="", help="Variants to measure untrained: 18,34,50 or names.")
@click.option("--url", help="host:port of a running server; one of another kind needs --models.")
@click.option("--metrics-url", help="Its metrics, such as http://host:8002/metrics  [default: not read]")
@click.option("--models", type=Names(), default="", help="Names  [default: all]")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", help="For servers that are started.")
@click.option("--precision", type=Names(), default="auto", help="For servers that are started; several are compared.")
@click.option("--server-options", default="", help="More options for servers that are started, such as '--engines 1'.")
@click.option("--input", "inputs", type=InputTensor(), multiple=True, help="For servers of other kinds  [default: as ModelMetadata says]")
@click.option("--rates", type=Rates(), help="Open loop at these calls a second  [default: search for the capacity]")
@click.option("--concurrency", type=Numbers(), help="Closed loop with so many calls in flight  [default: search for the capacity]")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="Gaps between the calls of --rates.")
@click.option("--rows", type=Numbers(), default="1", help="Images a call.")
@click.option("--slo", type=Seconds(), default="50ms", help="p99 within it, and 99 % of the calls answered OK within it.")
@click.option("--deadline", type=Seconds(), help="Sent with each call  [default: none]")
@click.option("--duration", type=Seconds(), default="3s", help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Interleaved over all models.")
@click.option("--generators", type=click.IntRange(1), default=1, help="Processes that send.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for results.json, results.csv and report.html.")
@one_line_errors
def depths(
    repository: Path | None,
    random_weights: tuple[str, ...],
    url: str | None,
    metrics_url: str | None,
    models: tuple[str, ...],
    device: str,
    precision: tuple[str, ...],
    server_options: str,
    inputs: tuple[Tensor, ...],
    rates: tuple[float, ...] | None,
    concurrency: tuple[int, ...] | None,
    arrivals: Arrivals,
    rows: tuple[int, ...],
    slo: float,
    deadline: float | None,
    duration: float,
    repeats: int,
    generators: int,
    out: Path | None,
) -> None:
    """Compare depths by latency, capacity within an SLO, accuracy and cost, beside raw ONNX Runtime of the same files."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    plan = Plan(rows, repeats, duration, slo, cores, rates or (), concurrency or (), arrivals, deadline)
    options = ("--device", device, *shlex.split(server_options))
    where = Where(repository, url, metrics_url, models, random_weights, precision, options, inputs)
    check(where, plan, generators)
    report, failure = compare(where, plan, generators)
    finish(report, out, failure)


def check(where: Where, plan: Plan, generators: int) -> None:
    """Raise UsageError or BenchError for options that contradict each other."""
    if where.repository is None and where.url is None and not where.random_weights:
        raise click.UsageError("give --repository, --random-weights or --url")
    if where.random_weights and (where.repository is not None or where.url is not None):
        raise click.UsageError("--random-weights starts its own servers; give it without --repository and --url")
    if plan.rates and plan.concurrencies:
        raise click.UsageError("give --rates (open loop) or --concurrency (closed loop), not both")
    if plan.searches and len(plan.rows) > 1:
        raise click.UsageError("several --rows need --rates or --concurrency; the capacity is searched for with one")
    if unknown := [name for name in where.precisions if name not in PRECISIONS]:
        raise BenchError(f"precision: '{unknown[0]}'; expected some of {', '.join(PRECISIONS)}")
    if generators > 1 and min(plan.concurrencies, default=generators) < generators:
        raise BenchError(f"generators: {generators} for {min(plan.concurrencies)} calls in flight; expected at most as many")


def compare(where: Where, plan: Plan, generators: int) -> tuple[Report, BenchError | KeyboardInterrupt | None]:
    """Measure; a comparison that is interrupted or fails gives what was measured, and why it ended; or raises that if it is nothing."""
    failure: BenchError | KeyboardInterrupt | None = None
    with Bar() as bar, subjects_at(where, bar) as subjects, Generators(generators) as running:
        bar.expect(plan.repeats * len(subjects), plan.expected_seconds * len(subjects))
        comparison = Comparison(plan, subjects, running, bar.step)
        try:
            comparison.run(bar.part_done)
        except (BenchError, KeyboardInterrupt) as error:
            if not comparison.results():
                raise
            failure = error
    command = shlex.join(["resnet-bench", *sys.argv[1:]])
    machine = this_machine(plan.cores)
    results, niceness = comparison.results(), comparison.niceness
    how = (plan.repeats, plan.seconds, plan.slo, plan.rows[0], generators, niceness)
    return Report(command, machine, *how, results, failure is None), failure


@contextmanager
def subjects_at(where: Where, bar: Bar) -> Iterator[list[Subject]]:
    """The models to measure, served."""
    if where.url is not None:
        yield find_subjects(Target(where.url, metrics_url=where.metrics_url), where.models, where.repository, where.inputs)
    elif where.random_weights:
        names = tuple(map(full_name, where.random_weights))
        with (
            untrained_repository(names, where.precisions, bar.step) as repository,
            own_servers(repository, names, where.precisions, where.server_options, bar.step) as subjects,
        ):
            yield subjects
    elif where.repository is not None:
        with own_servers(where.repository, where.models, where.precisions, where.server_options, bar.step) as subjects:
            yield subjects


def finish(report: Report, out: Path | None, failure: BenchError | KeyboardInterrupt | None) -> None:
    """Print the table, save the results; exit with 130 if interrupted, and raise BenchError if it failed or no model met the SLO."""
    print_report(report)
    if out is not None:
        for path in save_all(report, out):
            click.echo(f"saved: {path}")
    if isinstance(failure, BenchError):
        raise failure
    if failure is not None:
        click.echo(f"interrupted: what was measured is {'shown' if out is None else 'shown and saved'}", err=True)
        sys.exit(INTERRUPTED)
    capacities = [model.capacity for model in report.models if model.capacity is not None]
    if capacities and all(capacity.images is None for capacity in capacities):
        reason = f"{report.models[0].facts.name}: {capacities[0].reason}"
        raise BenchError(f"slo: no model meets {1e3 * report.slo:g} ms at any rate; {reason}")
