"""One server in several variants, interleaved, h2load in front: calls a second, latency, and what a call costs the front end.

`python docs/decisions/0011-variants.py --repository DIR --variant pure: --variant compiled:PYTHONPATH=build/compiled`. A variant is
NAME:KEY=VALUE,KEY=VALUE with what it has in its environment, RESNET_SERVER_... options among them; the first is the one that the others
are compared with. All but the measured one are stopped.
"""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
from resnet_bench.commands.shared import arguments, show
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.h2load import H2load
from resnet_bench.errors import one_line_errors
from resnet_bench.machine import this_machine
from resnet_bench.options import WHOLE, Seconds
from resnet_bench.peers.contender import send_all
from resnet_bench.recorder import Recorder
from resnet_bench.report.tables import shown, text_table, with_interval
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary
from resnet_bench.subject import find_subjects
from resnet_bench.target import started

HEADER = ("load", "variant", "calls/s", "over the first", "p50 ms", "p99 ms", "front end, CPU µs a call")


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """With these variables, for what is started within."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def variant(text: str) -> tuple[str, dict[str, str]]:
    """Of NAME:KEY=VALUE,KEY=VALUE; folders of PYTHONPATH become absolute."""
    name, _, rest = text.partition(":")
    values = dict(pair.split("=", 1) for pair in rest.split(",") if pair)
    if "PYTHONPATH" in values:
        values["PYTHONPATH"] = str(Path(values["PYTHONPATH"]).absolute())
    return name, values


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--variant", "variants", multiple=True, required=True, help="NAME:KEY=VALUE,..., twice or more.")
@click.option("--model", default="resnet20", show_default=True)
@click.option("--precision", default="fp32", show_default=True)
@click.option("--in-flight", type=WHOLE, default="1,16,64", help="Calls open at any time.")
@click.option("--rows", type=WHOLE, default="1", help="Images a call.")
@click.option("--duration", type=Seconds(), default="2s", help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=5, help="Interleaved.")
@click.option("--server-options", default="", help="The same for all variants.")
@click.option("--allow-disturbed", is_flag=True, help="Count runs in which other programs took the cores, too.")
@one_line_errors
def main(
    repository: Path,
    variants: tuple[str, ...],
    model: str,
    precision: str,
    in_flight: tuple[int, ...],
    rows: tuple[int, ...],
    duration: float,
    repeats: int,
    server_options: str,
    allow_disturbed: bool,
) -> None:
    """Compare variants of the server."""
    recorder, driver = Recorder(lambda text: click.echo(text, err=True), allow_disturbed), H2load()
    loads = [Load(model, arrivals="closed", concurrency=count, rows=each, seconds=duration) for each in rows for count in in_flight]
    with ExitStack() as stack, tempfile.TemporaryDirectory() as plans:
        options = ["--models", model, "--precision", precision, "--plan-cache", plans, *server_options.split()]
        subjects = []
        for name, values in map(variant, variants):
            with environment(values):
                target = stack.enter_context(started(repository, options))
            (subject,) = find_subjects(target, [model], repository)
            subjects.append(replace(subject, target=replace(target, name=name)))
            stack.callback(send_all, family := list(target.usage(memory=False)), signal.SIGCONT)
            send_all(family, signal.SIGSTOP)
        for repeat in range(repeats):
            for load in loads:
                for subject in subjects if repeat % 2 else subjects[::-1]:
                    family = list(subject.target.usage(memory=False))
                    send_all(family, signal.SIGCONT)
                    recorder.run(driver, subject, load, "closed", repeat)
                    send_all(family, signal.SIGSTOP)
    runs = [run for run in recorder.samples if not run.void]
    table = [row(load, name, runs, variant(variants[0])[0]) for load in loads for name, _ in map(variant, variants)]
    machine = this_machine()
    title = f"{model} {precision}; {machine.processor}, {machine.cores} cores; {machine.revision}; median [range]"
    show(text_table(title, HEADER, table, arguments()), *recorder.problems, width=200)


def row(load: Load, name: str, runs: list[Sample], first: str) -> tuple[str, ...]:
    """One variant under one load."""

    def of(target: str) -> dict[int, Sample]:
        return {run.repeat: run for run in runs if (run.target, run.load) == (target, str(load))}

    mine, others = of(name), of(first)
    ratios = Summary.of([mine[repeat].images / others[repeat].images for repeat in mine.keys() & others.keys()])
    figures = list(mine.values())
    return (
        str(load),
        name,
        shown(Summary.of([run.achieved_rate for run in figures]), 0),
        with_interval(ratios, 2),
        *(shown(Summary.of([run.latency_ms.get(key) for run in figures]), 2) for key in ("p50", "p99")),
        shown(Summary.of([1000 * run.rows * run.cpu["server"] for run in figures]), 0),
    )


if __name__ == "__main__":
    main()
