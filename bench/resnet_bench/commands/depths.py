"""`resnet-bench depths`: what each depth costs and gives."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from resnet_bench.commands.plane import DEADLINE, PlaneTask, plane_of
from resnet_bench.commands.shared import Bar, arguments, attempt, finish, full_name, serve_anyway, show, untrained_repository
from resnet_bench.comparison import Comparison, Plan
from resnet_bench.drivers.api import Arrivals
from resnet_bench.drivers.generators import Generators
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.machine import available_cores, this_machine
from resnet_bench.options import PRECISIONS, RATES, REPOSITORY, WHOLE, InputTensor, Names, Seconds, measuring
from resnet_bench.published import chosen
from resnet_bench.recorder import Recorder
from resnet_bench.report.tables import load_table, model_table, notes
from resnet_bench.requests import Tensor
from resnet_bench.results import Report, Settings
from resnet_bench.subject import Subject, find_subjects, own_servers
from resnet_bench.target import Target

FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


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
@click.option("--repository", type=REPOSITORY, help="Published models; servers are started on them unless --url is given.")
@click.option(
    "--random-weights", type=Names(), default="", help="Variants to measure untrained: 18,34,50 or names; with --group their latency alone."
)
@click.option("--group", default="", help="The plane of a group: NAME of --url, or NAME=MODEL,MODEL of --repository  [default: none]")
@click.option("--labelled", type=FILE, help="With --group: .npz of images and labels, to measure accuracy on  [default: as certified]")
@click.option("--real", is_flag=True, help="With --group: send the traces to the server, too.")
@click.option("--url", help="host:port of a running server; one of another kind needs --models.")
@click.option("--metrics-url", help="Its metrics, such as http://host:8002/metrics  [default: not read]")
@click.option("--models", type=Names(), default="", help="Names  [default: all]")
@click.option("--precision", type=Names(PRECISIONS), default="auto", help="For servers that are started; several are compared.")
@click.option("--server-options", default="", help="More options for servers that are started, such as '--engines 1 --device cuda'.")
@click.option("--input", "inputs", type=InputTensor(), multiple=True, help="For servers of other kinds  [default: as ModelMetadata says]")
@click.option("--rates", type=RATES, help="Open loop at these calls a second  [default: search for the capacity]")
@click.option("--concurrency", type=WHOLE, help="Closed loop with so many calls in flight  [default: search for the capacity]")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="Gaps between the calls of --rates.")
@click.option("--rows", type=WHOLE, default="1", help="Images a call.")
@click.option("--deadline", type=Seconds(), help="Sent with each call  [default: none]")
@click.option("--confirm", type=Seconds(), default="10s", help="Least time of the run that confirms a capacity.")
@measuring(repeats=5, duration="3s")
@one_line_errors
def depths(
    repository: Path | None,
    random_weights: tuple[str, ...],
    group: str,
    labelled: Path | None,
    real: bool,
    url: str | None,
    metrics_url: str | None,
    models: tuple[str, ...],
    precision: tuple[str, ...],
    server_options: str,
    inputs: tuple[Tensor, ...],
    rates: tuple[float, ...] | None,
    concurrency: tuple[int, ...] | None,
    arrivals: Arrivals,
    rows: tuple[int, ...],
    deadline: float | None,
    confirm: float,
    duration: float,
    repeats: int,
    seeds: int,
    slo: float,
    generators: int,
    niceness: int,
    allow_disturbed: bool,
    out: Path | None,
) -> None:
    """Compare depths by latency, capacity within an SLO, accuracy and cost, beside raw ONNX Runtime of the same files."""
    if group:
        more = tuple(shlex.split(server_options))
        task = PlaneTask(group, repository, url, labelled, deadline or DEADLINE, duration, seeds, real, more, precision, random_weights)
        plane_of(task, out)
        return
    timing = (repeats, seeds, duration, slo, confirm)
    plan = Plan(rows, *timing, available_cores(), rates or (), concurrency or (), arrivals, deadline)
    options = (*shlex.split(server_options), *serve_anyway(random_weights, precision))
    where = Where(repository, url, metrics_url, models, random_weights, precision, options, inputs)
    check(where, plan, generators)
    recorder = Recorder(allow_disturbed=allow_disturbed)
    with Bar() as bar, subjects_at(where, bar) as subjects, Generators(generators, niceness) as running:
        recorder.say = bar.step
        bar.expect(plan.measurements(len(subjects)))
        comparison = Comparison(plan, subjects, running, recorder)
        failure = attempt(comparison.run, lambda: recorder.samples)
    settings = Settings(repeats, seeds, duration, slo, rows[0], generators, allow_disturbed)
    found = (comparison.models, tuple(recorder.samples), tuple(comparison.searches), recorder.problems, failure is None)
    report = Report("depths", arguments(), this_machine(), settings, *found)
    show(model_table(report), *([load_table(report)] if not plan.searches else []), *notes(report))
    finish(failure, [] if out is None else save_all(report, out))
    check_slo(report)


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
    if generators > 1 and min(plan.concurrencies, default=generators) < generators:
        raise BenchError(f"generators: {generators} for {min(plan.concurrencies)} calls in flight; expected at most as many")


@contextmanager
def subjects_at(where: Where, bar: Bar) -> Iterator[list[Subject]]:
    """The models to measure, served."""
    if where.url is not None:
        yield find_subjects(Target("server", where.url, metrics_url=where.metrics_url), where.models, where.repository, where.inputs)
    elif where.random_weights:
        names = tuple(map(full_name, where.random_weights))
        with untrained_repository(where.random_weights, where.precisions, bar.step) as repository:
            bar.step("starting the servers")
            with own_servers(repository, names, where.precisions, where.server_options) as subjects:
                yield subjects
    elif where.repository is not None:
        names = chosen(where.repository, where.models)
        bar.step(f"starting servers for {', '.join(names)}")
        with own_servers(where.repository, names, where.precisions, where.server_options) as subjects:
            yield subjects


def check_slo(report: Report) -> None:
    """Raise BenchError where a capacity was looked for and no model has one."""
    if report.searches and not any(search.confirmed for search in report.searches):
        first = report.searches[0]
        raise BenchError(f"slo: no model meets {1e3 * report.settings.slo:g} ms at any rate; {first.model}: {first.reason}")


def save_all(report: Report, folder: Path) -> list[Path]:
    """Write results.json, results.csv and report.html; return their paths. Raises BenchError without matplotlib."""
    paths = report.save(folder)
    try:
        from resnet_bench.report.page import save_page  # matplotlib: only a report needs it
    except ImportError as error:
        raise BenchError(f"report.html needs {error.name}: pip install 'resnet-serving[bench]'; {paths[0]} is saved") from None
    return [*paths, save_page(report, folder / "report.html")]
