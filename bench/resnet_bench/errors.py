"""Errors of this package, and how a command ends on them."""

import functools
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn, ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


class BenchError(Exception):
    """Something that keeps a benchmark from running, or voids a run; one line for people."""


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print what a user can cause without a traceback and exit with status 1; with 130 on Ctrl-C and SIGTERM."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        before = signal.signal(signal.SIGTERM, _interrupt)  # so that no server is left running
        try:
            return command(*args, **kwargs)
        except (BenchError, OSError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            click.echo("interrupted: nothing was measured", err=True)
            sys.exit(INTERRUPTED)
        finally:
            signal.signal(signal.SIGTERM, before)

    return wrapped


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
