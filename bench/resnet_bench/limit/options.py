"""The frame that the measuring commands share."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from resnet_bench.errors import INTERRUPTED, BenchError
from resnet_bench.limit.results import save
from resnet_bench.options import Names


class KnownNames(Names):
    """Some of `known`, separated by commas."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self._known = known

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Parse, or fail with what is unknown."""
        names = super().convert(value, param, ctx)
        if unknown := [name for name in names if name not in self._known]:
            self.fail(f"'{', '.join(unknown)}'; expected some of {', '.join(self._known)}", param, ctx)
        return names


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A BenchError ends the command with its one line and status 1; SIGTERM counts as Ctrl-C, so that nothing is left running."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    except KeyboardInterrupt:
        click.echo("interrupted: nothing was measured", err=True)
        sys.exit(INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, before)


def with_progress(measure: Callable[[Callable[[str], None]], None], steps: int) -> bool:
    """Run `measure` behind a progress bar; False if it was interrupted."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=steps)
        begun = [0]

        def on_step(text: str) -> None:
            bar.update(task, completed=begun[0], description=text)
            begun[0] += 1

        try:
            measure(on_step)
        except KeyboardInterrupt:
            return False
    return True


def finish(report: object, table: Table, text: str, problems: tuple[str, ...], complete: bool, out: Path | None, name: str) -> None:
    """Print, save, and exit: with 130 after an interrupt, with 1 where a measurement was void."""
    console = Console(width=None if sys.stdout.isatty() else 220, markup=False, highlight=False)
    console.print(table)
    if out is not None:
        click.echo(f"saved: {', '.join(str(path) for path in save(report, text, out, name))}")
    for problem in problems:
        click.echo(problem, err=True)
    if not complete:
        click.echo(f"interrupted: what was measured is {'shown' if out is None else 'shown and saved'}", err=True)
        sys.exit(INTERRUPTED)
    if problems:
        sys.exit(1)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
