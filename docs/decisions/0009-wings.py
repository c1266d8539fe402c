"""Two trees of this project, interleaved: the same cells on the server of each, h2load in front. Prints calls a second and their ratio.

`python docs/decisions/0009-wings.py --tree before=PYTHON,REPOSITORY --tree after=PYTHON,REPOSITORY`: an interpreter in which that tree is
installed, and what that tree's exporter has published.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click
from resnet_bench.commands.shared import arguments, show
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.h2load import H2load
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.machine import this_machine
from resnet_bench.options import WHOLE, Seconds
from resnet_bench.recorder import Recorder
from resnet_bench.report.tables import shown, text_table
from resnet_bench.results import cells
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary
from resnet_bench.subject import find_subjects
from resnet_bench.target import Target

ANNOUNCEMENT = re.compile(r"resnet-server: listening on grpc=\S+:(\d+)")


@contextmanager
def started(name: str, python: str, repository: Path, options: list[str]) -> Iterator[Target]:
    """The server of one tree, until the end; paused by nobody, since an idle one of either tree uses nothing."""
    ports = ["--host", "127.0.0.1", "--grpc-port", "0", "--metrics-port", "0"]
    command = [python, "-m", "resnet_server", "serve", "--repository", str(repository), *ports, *options]
    pipes = {"stdout": subprocess.PIPE, "env": {**os.environ, "RESNET_SERVER_HTTP_PORT": "off"}, "cwd": "/"}  # the older one has no HTTP
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stderr=log, text=True, **pipes) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not (match := ANNOUNCEMENT.match(line)):
                raise BenchError(f"tree: the server of {name} did not start; it said {line!r}")
            yield Target(name, f"127.0.0.1:{match[1]}", process.pid)
        finally:
            process.terminate()


def tree(text: str) -> tuple[str, str, Path]:
    """Of NAME=PYTHON,REPOSITORY."""
    name, _, rest = text.partition("=")
    python, _, repository = rest.partition(",")
    if not (name and Path(python).is_file() and Path(repository).is_dir()):
        raise BenchError(f"tree: '{text}'; expected NAME=PYTHON,REPOSITORY with a file and a folder that exist")
    return name, python, Path(repository)


@click.command()
@click.option("--tree", "trees", multiple=True, required=True, help="NAME=PYTHON,REPOSITORY, twice.")
@click.option("--model", default="resnet20", show_default=True)
@click.option("--in-flight", type=WHOLE, default="1,16,64", help="Calls open at any time.")
@click.option("--rows", type=WHOLE, default="1,8", help="Images a call.")
@click.option("--duration", type=Seconds(), default="3s", help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=5, help="Interleaved.")
@click.option("--server-options", default="--precision fp32 --engines 2 --threads 1", show_default=True, help="The same for both.")
@click.option("--allow-disturbed", is_flag=True, help="Count runs in which other programs took the cores, too.")
@one_line_errors
def main(
    trees: tuple[str, ...],
    model: str,
    in_flight: tuple[int, ...],
    rows: tuple[int, ...],
    duration: float,
    repeats: int,
    server_options: str,
    allow_disturbed: bool,
) -> None:
    """Compare the servers of two trees."""
    recorder, driver = Recorder(lambda text: click.echo(text, err=True), allow_disturbed), H2load()
    loads = [Load(model, arrivals="closed", concurrency=count, rows=each, seconds=duration) for each in rows for count in in_flight]
    with ExitStack() as stack:
        subjects = []
        for name, python, repository in map(tree, trees):
            target = stack.enter_context(started(name, python, repository, server_options.split()))
            (subject,) = find_subjects(target, [model], repository)
            subjects.append(replace(subject, target=target))
        for repeat in range(repeats):
            for load in loads:
                for subject in subjects if repeat % 2 else subjects[::-1]:
                    recorder.run(driver, subject, load, "closed", repeat)
    found = cells(recorder.samples)
    table = [row(load, [cell.runs for cell in found.values() if cell.first.load == str(load)]) for load in loads]
    machine = this_machine()
    title = f"{model}, {server_options}; {machine.processor}, {machine.cores} cores; {repeats} repeats, median [range]"
    names = [text.partition("=")[0] for text in trees]
    show(text_table(title, ("load", *(f"{name}, calls/s" for name in names), f"{names[-1]} / {names[0]}"), table, arguments()))


def row(load: Load, runs: Sequence[Sequence[Sample]]) -> tuple[str, ...]:
    """One cell of the grid: rates of each tree, and the ratio of the runs that lie beside each other."""
    first, last = ([run.achieved_rate for run in each] for each in (runs[0], runs[-1]))
    ratios = Summary.of([b / a for a, b in zip(first, last, strict=False)])
    return (str(load), *(shown(Summary.of([run.achieved_rate for run in each]), 0) for each in runs), shown(ratios, 2))


if __name__ == "__main__":
    main()
