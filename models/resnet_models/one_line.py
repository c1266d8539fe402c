"""What a user can cause, as one line and a non-zero exit status."""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from resnet_models.errors import ResnetModelsError

P = ParamSpec("P")
R = TypeVar("R")


def one_line(*kinds: type[Exception]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """For a command: errors of these kinds, of this package and of the system end it without a traceback; so does a missing scipy."""
    caught: tuple[type[Exception], ...] = (ResnetModelsError, OSError, *kinds)

    def wrap(command: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(command)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return command(*args, **kwargs)
            except caught as error:
                raise click.ClickException(str(error)) from None
            except ModuleNotFoundError as error:
                if error.name is None or error.name.partition(".")[0] != "scipy":
                    raise
                raise click.ClickException("scipy is not installed; pip install 'resnet-serving[science]'") from None

        return wrapped

    return wrap
