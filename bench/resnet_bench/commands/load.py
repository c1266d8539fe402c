"""`resnet-bench load`: one load on one model of any Open Inference Protocol server; also overload and soak."""

import json
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
from resnet_client import TLS, InvalidInputError

from resnet_bench.access import Access
from resnet_bench.commands.shared import Bar, arguments, attempt, finish, show
from resnet_bench.drivers.api import Arrivals, Driver, Load
from resnet_bench.drivers.generators import Generators
from resnet_bench.drivers.h2load import H2load
from resnet_bench.drivers.soak import PARTS, Soak, growth_percent, problems_of
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.machine import this_machine
from resnet_bench.options import PRECISIONS, REPOSITORY, Amount, InputTensor, Seconds, measuring
from resnet_bench.published import chosen
from resnet_bench.recorder import Recorder, seeds_of
from resnet_bench.report.tables import shown, text_table
from resnet_bench.requests import Tensor
from resnet_bench.results import Report, Settings, cells
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary
from resnet_bench.subject import Subject, find_subjects, own_servers
from resnet_bench.target import Target

IN_FLIGHT = 64  # where the capacity is measured, or traffic mixed, and nothing else is said
PEM = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True)
class What:
    """What is sent: the load, and overload and soak as they were asked for."""

    load: Load
    driver: str
    overload: float | None
    soak: tuple[int | None, float] | None
    settings: Settings


@click.command(context_settings={"show_default": True})
@click.option("--url", help="host:port of a running server: resnet-server, Triton, MLServer, ...")
@click.option("--tls", is_flag=True, help="Speak TLS to --url.")
@click.option("--ca", type=PEM, help="PEM file of who signs its certificate; implies --tls.")
@click.option("--cert", type=PEM, help="PEM file with a certificate of one's own; implies --tls.")
@click.option("--key", type=PEM, help="PEM file with the key of --cert.")
@click.option("--token", default="", envvar="RESNET_CLIENT_TOKEN", help="Bearer token for --url  [env var: RESNET_CLIENT_TOKEN]")
@click.option("--metrics-url", help="Its metrics, such as http://host:8002/metrics  [default: not read]")
@click.option("--repository", type=REPOSITORY, help="Published models; a server is started on them unless --url is given.")
@click.option("--model", required=True, help="Its name there.")
@click.option("--version", default="", help="Its version  [default: the server's choice]")
@click.option("--precision", type=click.Choice(PRECISIONS), default="auto", help="For a server that is started.")
@click.option("--server-options", default="", help="More options for a server that is started.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open loop: calls a second.")
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop: calls in flight.")
@click.option("--driver", type=click.Choice([Generators.name, H2load.name]), default=Generators.name, help="h2load: less CPU.")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="Gaps between the calls of --rate.")
@click.option("--rows", type=click.IntRange(1), default=1, help="Rows a call.")
@click.option("--warm-up", type=Seconds(), default="1s", help="Time before the counted time.")
@click.option("--deadline", type=Seconds(), help="Sent with each call  [default: none; with --overload the SLO, as request parameter]")
@click.option("--connections", type=click.IntRange(1), default=1, help="Of each generator.")
@click.option("--input", "inputs", type=InputTensor(), multiple=True, help="-1: where the rows go  [default: as ModelMetadata says]")
@click.option("--overload", type=click.FloatRange(1, min_open=True), help="Send so many times the capacity, measured right before.")
@click.option("--soak", type=Amount(), help="Mixed traffic for so long (1h), or for so many calls (1000000).")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@measuring(repeats=1, duration="10s")
@one_line_errors
def load(
    url: str | None,
    tls: bool,
    ca: Path | None,
    cert: Path | None,
    key: Path | None,
    token: str,
    metrics_url: str | None,
    repository: Path | None,
    model: str,
    version: str,
    precision: str,
    server_options: str,
    rate: float | None,
    concurrency: int | None,
    driver: str,
    arrivals: Arrivals,
    rows: int,
    warm_up: float,
    deadline: float | None,
    connections: int,
    inputs: tuple[Tensor, ...],
    overload: float | None,
    soak: tuple[int | None, float] | None,
    as_json: bool,
    duration: float,
    repeats: int,
    seeds: int,
    slo: float,
    generators: int,
    niceness: int,
    allow_disturbed: bool,
    out: Path | None,
) -> None:
    """Measure one load: --rate (open loop), --concurrency (closed loop), --overload or --soak."""
    settings = Settings(repeats, seeds, duration, slo, rows, generators, allow_disturbed or soak is not None)
    in_flight = concurrency or (IN_FLIGHT if overload or soak else 0)
    kind: Arrivals = arrivals if rate else "closed"
    wanted = Load(model, version, kind, rate or 0.0, in_flight, rows, warm_up, duration, slo, deadline, 0, connections)
    what = What(wanted, driver, overload, soak, settings)
    check(what, rate, concurrency, url, repository)
    target = None if url is None else Target("server", url, metrics_url=metrics_url, access=access_of(what, tls, ca, cert, key, token))
    recorder = Recorder(allow_disturbed=settings.allow_disturbed)
    with Bar() as bar, subject_at(target, repository, wanted, precision, server_options, inputs) as subject:
        recorder.say = bar.step
        bar.expect(PARTS if soak else repeats * (1 + 2 * seeds if overload else seeds))

        def report(complete: bool = True) -> Report:
            facts, problems = (subject.facts,), (*recorder.problems, *(problems_of(recorder.samples) if soak else ()))
            return Report("load", arguments(), this_machine(), settings, facts, tuple(recorder.samples), (), problems, complete)

        with Generators(generators, niceness) as running:
            failure = attempt(lambda: measure(what, subject, running, recorder, lambda: save(report(False), out)), lambda: recorder.samples)
        found = report(failure is None)
    tell(found, what, as_json)
    finish(failure, save(found, out))
    if found.problems:
        raise BenchError("; ".join(found.problems))


def save(report: Report, out: Path | None) -> list[Path]:
    """Write the files, if a folder was named; a soak does so after every part, so that no failure loses what was read."""
    return [] if out is None else report.save(out)


def check(what: What, rate: float | None, concurrency: int | None, url: str | None, repository: Path | None) -> None:
    """Raise UsageError or BenchError for options that contradict each other."""
    if url is None and repository is None:
        raise click.UsageError("give --url or --repository")
    special = what.overload is not None or what.soak is not None
    if special and (rate is not None or (what.overload is not None and what.soak is not None)):
        raise click.UsageError("give one of --rate, --overload and --soak")
    if not special and (rate is None) == (concurrency is None):
        raise click.UsageError("give --rate (open loop) or --concurrency (closed loop), one of the two; or --overload, or --soak")
    if what.driver == H2load.name and rate is not None and what.load.arrivals != "constant":
        raise click.UsageError("--driver h2load sends at a constant rate; give --arrivals constant")
    if what.driver == H2load.name and what.soak is not None:
        raise click.UsageError("--driver h2load sends one body again and again; --soak sends many kinds of calls")
    if concurrency is not None and concurrency < what.settings.generators:
        raise BenchError(f"generators: {what.settings.generators} for {concurrency} calls in flight; expected at most as many")


def access_of(what: What, tls: bool, ca: Path | None, cert: Path | None, key: Path | None, token: str) -> Access:
    """As the options say. Raises UsageError for a driver that can do neither, and BenchError for wrong files."""
    chosen = TLS(ca, cert, key) if tls or ca or cert or key else None
    access = Access(chosen, token.strip())
    if not access.plain and (what.driver == H2load.name or what.soak is not None):
        raise click.UsageError("--driver h2load and --soak speak no TLS and send no token")
    try:
        if chosen is not None:
            chosen.credentials()
    except InvalidInputError as error:
        raise BenchError(str(error)) from None
    return access


@contextmanager
def subject_at(
    target: Target | None, repository: Path | None, load: Load, precision: str, options: str, inputs: tuple[Tensor, ...]
) -> Iterator[Subject]:
    """The model to measure, served."""
    if target is not None:
        (subject,) = find_subjects(target, (load.model,), repository, inputs)
        yield replace(subject, facts=replace(subject.facts, version=load.version))
    elif repository is not None:
        with own_servers(repository, chosen(repository, (load.model,)), (precision,), shlex.split(options)) as (subject,):
            yield subject


def measure(what: What, subject: Subject, generators: Generators, recorder: Recorder, save_part: Callable[[], object]) -> None:
    """Run what was asked for. Raises BenchError as the drivers do."""
    driver: Driver = H2load() if what.driver == H2load.name else generators
    requests = subject.checked_requests(what.load.rows) if what.driver == H2load.name else None
    for repeat in range(what.settings.repeats):
        if what.soak is not None:
            soak(what, subject, recorder, save_part)
        elif what.overload is not None:
            overload(what, subject, driver, recorder, repeat)
        else:
            for seed in seeds_of(repeat, what.settings.seeds) if what.load.arrivals == "poisson" else (0,):
                recorder.run(driver, subject, replace(what.load, seed=seed), "load", repeat, requests)


def overload(what: What, subject: Subject, driver: Driver, recorder: Recorder, repeat: int) -> None:
    """The capacity by a closed loop, then several times as many calls, without deadlines and with them, all from the same generator.

    What is answered of so many calls without deadlines is what the machine can do beside a generator that sends, and a server that
    refuses, that much. The deadline travels as request parameter: gRPC's own would end the call here, and late answers would not be seen.
    """
    deadline = what.load.deadline or what.load.slo
    plain = replace(what.load, arrivals="closed", rate=0.0, deadline=None)
    full = recorder.run(driver, subject, plain, "capacity", repeat)
    if full.void or not full.answered:
        raise BenchError(f"overload: the capacity is not known: {full.void or full.first_error}")
    rate = (what.overload or 1.0) * full.answered / full.seconds
    arrivals: Arrivals = "constant" if what.driver == H2load.name else "poisson"
    for seed in seeds_of(repeat, what.settings.seeds) if arrivals == "poisson" else (0,):
        flood = replace(plain, arrivals=arrivals, rate=rate, concurrency=0, slo=deadline, seed=seed)
        recorder.run(driver, subject, flood, "flood", repeat)
        recorder.run(driver, subject, flood, "overload", repeat, subject.requests(what.load.rows, deadline))


def soak(what: What, subject: Subject, recorder: Recorder, save_part: Callable[[], object]) -> None:
    """Ten parts; what was read is saved after each."""
    if subject.material is None:
        raise BenchError("soak: needs images; give --repository")
    calls, seconds = what.soak or (None, 0.0)
    for part in range(PARTS):
        driver = Soak(subject.material, subject.facts.name, None if calls is None else max(1, calls // PARTS))
        recorder.run(driver, subject, replace(what.load, arrivals="closed", seconds=seconds / PARTS, seed=part), "soak", part)
        save_part()


def tell(report: Report, what: What, as_json: bool) -> None:
    """Print the samples."""
    if as_json:
        click.echo(
            json.dumps([asdict(sample) | {"goodput": sample.goodput, "images": sample.images} for sample in report.samples], indent=2)
        )
    elif what.soak is not None:
        growth = growth_percent(report.samples)
        show(text_table("mixed traffic: memory (proportional set size) and outcomes", *soak_rows(report.samples)))
        show("memory: one reading" if growth is None else f"memory grew by {growth:+.2f} % from the first part to the last")
    else:
        show(text_table(f"{what.load.model} at {report.samples[0].target}, {what.settings.seconds:g} s a run", ("", ""), lines(report)))
        for text in overload_lines(report):
            show(text)


def soak_rows(samples: tuple[Sample, ...]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header, and a row for each part."""
    rows: list[tuple[str, ...]] = []
    for sample in samples:
        outcomes = ", ".join(f"{status} {count:,}" for status, count in sample.outcomes.items())
        memory = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in sample.memory.items())
        total = (sample.memory_bytes or 0) / 2**20
        rows.append((f"{sample.calls:,}", f"{sample.achieved_rate:,.0f}", f"{total:,.1f}", memory, outcomes))
    return ("calls", "calls/s", "MiB", "processes", "outcomes"), rows


def lines(report: Report) -> list[tuple[str, str]]:
    """The figures as people read them, load by load."""
    found: list[tuple[str, str]] = []
    for cell in cells(report.samples).values():
        first, runs = cell.first, cell.runs
        outcomes = cell.total(run.outcomes for run in runs or (first,))
        latencies = ", ".join(f"{name} {shown(cell.latency(name))}" for name in ("p50", "p90", "p99", "p99.9", "max") if cell.latency(name))
        cpu = cell.summary(lambda run: run.cpu_seconds)
        found += [
            (first.kind, f"{first.load}, {first.driver}"),
            ("achieved", f"{shown(cell.summary(lambda run: run.achieved_rate))} calls/s"),
            ("outcomes", ", ".join(f"{status} {count:,}" for status, count in outcomes.items()) or "none"),
            ("goodput", f"{shown(cell.summary(lambda run: 100 * run.goodput), 2)} % within {1e3 * first.slo:g} ms"),
            ("throughput", f"{shown(cell.summary(lambda run: run.images))} rows/s"),
            ("latency, ms", latencies or "no call was answered"),
            ("generator", f"{max(run.generator_cpu for run in runs or (first,)):.2f} cores, sent {first.lag_p99_ms:.2f} ms late at p99"),
            *([("CPU", f"{shown(cpu, 3)} s per 1,000 images")] if cpu else []),
            ("first error", next((run.first_error for run in runs if run.first_error), first.first_error) or "none"),
            ("valid", "yes" if not cell.voids else f"{len(runs)} of {len(runs) + len(cell.voids)} runs: {cell.voids[-1]}"),
        ]
    return found


def overload_lines(report: Report) -> list[str]:
    """Goodput over capacity and over what is answered of the same flood without deadlines, and how late the answers were that came."""
    floods = [sample for sample in report.samples if sample.kind == "overload" and not sample.void]
    if not floods:
        return []
    late = Summary.of(flood.latency_ms["p99"] - 1e3 * flood.slo if "p99" in flood.latency_ms else None for flood in floods)
    shares = {"capacity": "goodput / capacity", "flood": "goodput / answers to the same flood without deadlines"}
    lines = [f"{text} {shown(Summary.of(found), 2)}" for kind, text in shares.items() if (found := shares_of(report.samples, floods, kind))]
    return [*lines, f"p99 after the deadline, ms {shown(late, 1)}"]


def shares_of(samples: Sequence[Sample], floods: Sequence[Sample], kind: str) -> list[float]:
    """Answers in time a second, over answers a second of the runs of a kind; for those repeats and seeds that have both."""
    return [
        flood.in_time / flood.seconds / (base.answered / base.seconds)
        for flood in floods
        for base in samples
        if base.kind == kind and base.repeat == flood.repeat and base.seed in (flood.seed, 0) and base.answered and not base.void
    ]
