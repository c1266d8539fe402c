"""`resnet-bench peers`: the same file on the same cores behind other servers, and behind none."""

from pathlib import Path

import click

from resnet_bench.commands.shared import Bar, arguments, attempt, finish, full_name, show
from resnet_bench.drivers.generators import Generators
from resnet_bench.drivers.h2load import H2load
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.machine import available_cores, this_machine
from resnet_bench.options import FOLDER, REPOSITORY, SHARES, WHOLE, Names, measuring
from resnet_bench.peers.environment import default_folder
from resnet_bench.peers.lineup import OURS, PEERS
from resnet_bench.peers.measurement import PROVIDERS, Measurement, Work
from resnet_bench.peers.standings import HEADER, standings
from resnet_bench.published import chosen, ensure_untrained, find
from resnet_bench.recorder import Recorder
from resnet_bench.report.tables import markdown, notes, text_table, title
from resnet_bench.results import Report, Settings

MARKDOWN = "peers.md"


@click.command(context_settings={"show_default": True})
@click.option("--repository", type=REPOSITORY, required=True, help="Published models.")
@click.option("--random-weights", type=Names(), default="", help="Variants to publish there untrained first: 18,50 or names.")
@click.option("--models", type=Names(), default="", help="Names  [default: all]")
@click.option("--peers", type=Names(PEERS), default=",".join(PEERS), help="Which servers.")
@click.option("--precision", type=Names(("fp32", "fp16", "int8")), default="fp32", help="The file that all serve, ours too.")
@click.option("--runtime", type=click.Choice(tuple(PROVIDERS)), default="onnxruntime", help="What computes in all; raw is ONNX Runtime's.")
@click.option("--in-flight", type=WHOLE, default="1,16,64", help="Closed loop: calls open at any time.")
@click.option("--rows", type=WHOLE, default="1,8,32", help="Images a call.")
@click.option("--shares", type=SHARES, default="0.8", help="Open loop: p99 at these shares of the slowest server's throughput.")
@click.option("--no-shares", is_flag=True, help="Closed loops only.")
@click.option("--one-at-a-time", is_flag=True, help="Start each server for its turn, instead of stopping all but the measured one.")
@click.option("--environments", type=FOLDER, default=default_folder(), show_default="~/.cache", help="Where the peers are installed.")
@click.option("--install/--no-install", default=True, help="Install missing peers with pip.")
@measuring(repeats=5, duration="3s")
@one_line_errors
def peers(
    repository: Path,
    random_weights: tuple[str, ...],
    models: tuple[str, ...],
    peers: tuple[str, ...],
    precision: tuple[str, ...],
    runtime: str,
    in_flight: tuple[int, ...],
    rows: tuple[int, ...],
    shares: tuple[float, ...],
    no_shares: bool,
    one_at_a_time: bool,
    environments: Path,
    install: bool,
    duration: float,
    repeats: int,
    seeds: int,
    slo: float,
    generators: int,
    niceness: int,
    allow_disturbed: bool,
    out: Path | None,
) -> None:
    """Compare with Triton (Python backend), MLServer, LitServe and raw ONNX Runtime on the same file, precision and cores.

    Every server runs in each configuration of a fixed set; the best under each load counts, and is named.
    """
    loads = tuple((open_calls, images) for images in rows for open_calls in in_flight)
    shares = () if no_shares else shares
    where = available_cores(), environments.expanduser().absolute()
    work = Work(peers, loads, shares, repeats, seeds, duration, slo, *where, install, one_at_a_time, runtime)
    driver, recorder = H2load(), Recorder(allow_disturbed=allow_disturbed)
    for name in map(full_name, random_weights):
        ensure_untrained(repository, name, precision)
    names = models or tuple(map(full_name, random_weights))
    published = [find(repository, name, one) for name in chosen(repository, names) for one in precision]
    with Bar() as bar, Generators(generators, niceness) as running:
        recorder.say = bar.step
        bar.expect(work.measurements(len(published)))
        measurement = Measurement(work, driver, running, recorder)
        failure = attempt(lambda: measurement.run(published), lambda: recorder.samples)
    problems = tuple(dict.fromkeys([*measurement.missing.values(), *measurement.problems, *recorder.problems]))
    settings = Settings(repeats, seeds, duration, slo, rows[0], generators, allow_disturbed, shares)
    samples = tuple(recorder.samples)
    report = Report("peers", arguments(), this_machine(), settings, tuple(measurement.models), samples, (), problems, failure is None)
    table = [row for standing in standings(report) for row in standing.rows()]
    show(text_table(title(report), HEADER, table, left=lambda name: name in ("network", "server", "best configuration")), width=260)
    show(*notes(report), *problems)
    finish(failure, [] if out is None else [*report.save(out), save_markdown(report, table, out)])
    if not any(sample.target != OURS and not sample.void for sample in samples):
        raise BenchError(f"peers: none could be measured: {'; '.join(problems)}")


def save_markdown(report: Report, rows: list[tuple[str, ...]], folder: Path) -> Path:
    """The table as Markdown."""
    path = folder / MARKDOWN
    path.write_text(markdown(title(report), HEADER, rows, "\n\n".join([*notes(report), *report.problems])), encoding="utf-8")
    return path
