"""`resnet-bench load`: one load on one model of any Open Inference Protocol server."""

import json
import sys

import click
from rich.console import Console
from rich.table import Table

from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.load.describe import metadata_of
from resnet_bench.load.generators import Generators
from resnet_bench.load.request import Tensor, generated, tensors_of
from resnet_bench.load.sample import Sample
from resnet_bench.load.spec import Arrivals, Load
from resnet_bench.options import InputTensor, Seconds

PERCENTILES = (50.0, 90.0, 99.0, 99.9, 100.0)
DEFAULT_SLO, DEFAULT_SECONDS, DEFAULT_WARM_UP = 0.05, 10.0, 1.0


@click.command(context_settings={"show_default": True})
@click.option("--url", required=True, help="host:port of the server: resnet-server, Triton, MLServer, ...")
@click.option("--model", required=True, help="Its name there.")
@click.option("--version", default="", help="Its version  [default: the server's choice]")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open loop: calls a second.")
@click.option("--concurrency", type=click.IntRange(1), help="Closed loop: calls in flight.")
@click.option("--arrivals", type=click.Choice(["poisson", "constant"]), default="poisson", help="Gaps between the calls of --rate.")
@click.option("--rows", type=click.IntRange(1), default=1, help="Rows a call.")
@click.option("--duration", type=Seconds(), default=DEFAULT_SECONDS, help="Counted time.")
@click.option("--warm-up", type=Seconds(), default=DEFAULT_WARM_UP, help="Time before it.")
@click.option("--slo", type=Seconds(), default=DEFAULT_SLO, help="An answer within it is good.")
@click.option("--deadline", type=Seconds(), help="Sent with each call  [default: none]")
@click.option("--input", "inputs", type=InputTensor(), multiple=True, help="-1: where the rows go  [default: as ModelMetadata says]")
@click.option("--generators", type=click.IntRange(1), default=1, help="Processes that send.")
@click.option("--seed", type=int, default=0, help="Of the Poisson arrivals.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@one_line_errors
def load(
    url: str,
    model: str,
    version: str,
    rate: float | None,
    concurrency: int | None,
    arrivals: Arrivals,
    rows: int,
    duration: float,
    warm_up: float,
    slo: float,
    deadline: float | None,
    inputs: tuple[Tensor, ...],
    generators: int,
    seed: int,
    as_json: bool,
) -> None:
    """Measure one load: --rate (open loop, latency from the intended send time) or --concurrency (closed loop)."""
    if (rate is None) == (concurrency is None):
        raise click.UsageError("give --rate (open loop) or --concurrency (closed loop), one of the two")
    if concurrency is not None and concurrency < generators:
        raise BenchError(f"generators: {generators} for {concurrency} calls in flight; expected at most as many")
    kind: Arrivals = arrivals if rate else "closed"
    wanted = Load(url, model, version, kind, rate or 0.0, concurrency or 0, rows, warm_up, duration, slo, deadline, seed)
    requests = generated(model, version, inputs or tensors_of(metadata_of(url, model, version)), rows)
    with Generators(generators) as running:
        sample = running.run_valid(wanted, requests)
    show(sample, as_json)
    if sample.void:
        raise BenchError(f"void: {sample.void}")


def show(sample: Sample, as_json: bool) -> None:
    """Print the sample."""
    if as_json:
        click.echo(json.dumps(figures(sample), indent=2))
        return
    load = sample.load
    table = Table("", "", title=f"{load.model} at {load.url}: {load}, {load.seconds:g} s", title_justify="left", show_header=False)
    for name, text in lines(sample):
        table.add_row(name, text)
    Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False).print(table)


def lines(sample: Sample) -> list[tuple[str, str]]:
    """The figures as people read them."""
    load = sample.load
    latencies = ", ".join(f"p{percentile:g} {sample.latency_ms(percentile):.2f}" for percentile in PERCENTILES)
    return [
        ("calls", f"{sample.sent:,}"),
        ("outcomes", ", ".join(f"{status} {count:,}" for status, count in sample.outcomes.most_common()) or "none"),
        ("goodput", f"{100 * sample.goodput:.2f} % within {1e3 * load.slo:g} ms"),
        ("throughput", f"{sample.throughput:,.1f} rows/s"),
        ("latency, ms", latencies if sample.outcomes["OK"] else "no call was answered"),
        ("generator", f"{sample.generator_cpu:.2f} cores, sent {sample.lag_ms(99):.2f} ms late at p99"),
        ("first error", sample.first_error or "none"),
        ("valid", f"no: {sample.void}" if sample.void else "yes"),
    ]


def figures(sample: Sample) -> dict[str, object]:
    """The figures as JSON: seconds of the load, milliseconds of latency, shares 0..1."""
    load = sample.load
    return {
        "url": load.url,
        "model": load.model,
        "arrivals": load.arrivals,
        "rate": load.rate,
        "concurrency": load.concurrency,
        "rows": load.rows,
        "seconds": load.seconds,
        "slo_seconds": load.slo,
        "deadline_seconds": load.deadline,
        "calls": sample.sent,
        "outcomes": dict(sample.outcomes),
        "goodput": sample.goodput,
        "throughput": sample.throughput,
        "latency_ms": {f"p{percentile:g}": sample.latency_ms(percentile) for percentile in PERCENTILES},
        "mean_ms": sample.mean_ms,
        "generator_cpu": sample.generator_cpu,
        "lag_p99_ms": sample.lag_ms(99),
        "void": sample.void,
    }
