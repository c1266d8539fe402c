"""Errors of this package."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130


class BenchError(Exception):
    """Something that keeps a benchmark from running, or voids it; one line for people."""


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print what a user can cause without a traceback, and exit with status 1; with 130 on Ctrl-C."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (BenchError, OSError) as error:
            raise click.ClickException(str(error)) from None
        except KeyboardInterrupt:
            click.echo("interrupted: nothing was measured", err=True)
            sys.exit(INTERRUPTED)

    return wrapped
