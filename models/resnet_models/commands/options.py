"""Options that the commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click


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
