"""What the commands share: options, and errors as one line."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click

from resnet_models.errors import ResnetModelsError

P = ParamSpec("P")
R = TypeVar("R")


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn what a user can cause (bad input, a full disk, Ctrl-C) into one line and a non-zero status."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ResnetModelsError, OSError) as error:
            raise click.ClickException(str(error)) from None
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "scipy":
                raise
            raise click.ClickException("scipy is not installed; pip install 'resnet-serving[science]'") from None

    return wrapped


def data_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--data` and `--download`."""
    folder = "Folder with CIFAR-10 as .npz pair or as torchvision has it."
    fetch = click.option("--download", is_flag=True, help="Fetch CIFAR-10 into --data through torchvision if it is not there.")
    return click.option("--data", type=click.Path(path_type=Path), required=True, help=folder)(fetch(command))


precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    envvar="RESNET_TRAIN_PRECISION",
    show_envvar=True,
    help="bf16: autocast; auto: where the hardware has it.",
)
device_option = click.option("--device", default="auto", help="auto, cpu or cuda.")
threads_option = click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]")


def use_threads(threads: int | None) -> None:
    """Let torch compute with as many threads, if a number was given."""
    import torch

    if threads:
        torch.set_num_threads(threads)
