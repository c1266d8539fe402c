"""What the measuring commands do alike: say how far they are, run, show, save, and end with the right status."""

import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from resnet_bench.errors import INTERRUPTED, BenchError
from resnet_bench.published import SERVE_ANYWAY, ensure_untrained

Failure = BenchError | KeyboardInterrupt | None


class Bar:
    """Says what is being measured; `expect` tells how many measurements there are."""

    def __init__(self) -> None:
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._lines = not console.is_terminal
        self._task = self._bar.add_task("", total=None)
        self._begun = False

    def expect(self, measurements: int) -> None:
        """From here on there are about so many."""
        self._bar.reset(self._task, total=measurements)
        self._begun = False

    def step(self, text: str) -> None:
        """The one before is done; `text` begins."""
        self._bar.update(self._task, advance=int(self._begun), description=text)
        self._begun = True
        if self._lines:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    def __enter__(self) -> Self:
        if not self._lines:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._lines:
            self._bar.stop()


def attempt(measure: Callable[[], None], measured: Callable[[], object]) -> Failure:
    """Measure; what ends it early is given back where something was `measured` by then, and raised where nothing was."""
    try:
        measure()
    except (BenchError, KeyboardInterrupt) as error:
        if not measured():
            raise
        return error
    return None


def arguments() -> str:
    """The command as it was called."""
    return shlex.join(["resnet-bench", *sys.argv[1:]])


def show(*tables: Table | str, width: int = 200) -> None:
    """Print tables and lines."""
    console = Console(width=None if sys.stdout.isatty() else width, markup=False, highlight=False)
    for table in tables:
        console.print(table)


def finish(failure: Failure, paths: Sequence[Path]) -> None:
    """Say what was saved, and end: with 130 after an interrupt, by raising what else ended it."""
    for path in paths:
        click.echo(f"saved: {path}")
    if isinstance(failure, BenchError):
        raise failure
    if failure is not None:
        click.echo(f"interrupted: what was measured is {'shown and saved' if paths else 'shown'}", err=True)
        sys.exit(INTERRUPTED)


@contextmanager
def untrained_repository(names: Sequence[str], precisions: Sequence[str], say: Callable[[str], None]) -> Iterator[Path]:
    """Networks with random weights in a temporary repository, `auto` as fp32; a number is a depth of He et al.'s."""
    files = list(dict.fromkeys("fp32" if precision == "auto" else precision for precision in precisions))
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        for name in map(full_name, names):
            say(f"publishing {name} with random weights")
            ensure_untrained(Path(folder), name, files)
        yield Path(folder)


def full_name(variant: str) -> str:
    """The variant's name; a number is a depth of He et al.'s residual networks."""
    return f"resnet{variant}" if variant.isdigit() else variant


def serve_anyway(random_weights: Sequence[str], precisions: Sequence[str]) -> tuple[str, ...]:
    """The server's option without which it refuses untrained networks in INT8."""
    return SERVE_ANYWAY if random_weights and "int8" in precisions else ()
