"""`resnet-train fit`: one network."""

import functools
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from resnet_models.commands.options import data_option, device_option, precision_option, threads_option
from resnet_models.commands.training import RunSettings, train
from resnet_models.one_line import one_line
from resnet_models.recipes import Changes
from resnet_models.variants import find_variant


def recipe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what makes a recipe, for every command that trains: `recipe`, `epochs` and `changes`."""

    @functools.wraps(command)
    def packed(*args: Any, **options: Any) -> Any:
        changed = {one.name: options.pop(one.name) for one in fields(Changes)}
        changes = Changes(**{name: None if value is False else value for name, value in changed.items()})
        return command(*args, changes=changes, **options)

    for option in reversed(
        (
            click.option(
                "--recipe", type=click.Choice(["paper", "short", "imagenet"]), help="Schedule and constants  [default: by network]"
            ),
            click.option("--epochs", type=click.IntRange(min=1), help="Length of a run  [default: the recipe's]"),
            click.option("--schedule", type=click.Choice(["one-cycle", "cosine", "steps"]), help="Learning rates  [default: the recipe's]"),
            click.option("--peak", type=click.FloatRange(0, min_open=True), help="Greatest learning rate  [default: the recipe's]"),
            click.option("--label-smoothing", type=click.FloatRange(0, 1, max_open=True), help="Share given to all classes alike."),
            click.option("--ema", type=click.FloatRange(0, 1, max_open=True), help="Decay a step of averaged weights, e.g. 0.99."),
            click.option("--batch", type=click.IntRange(min=1), help="Images a step  [default: the recipe's]"),
            click.option("--whiten", is_flag=True, help="Start the first convolution as the whitening of its patches."),
            click.option("--zero-gamma", is_flag=True, help="Start every residual branch at zero."),
            click.option(
                "--stochastic-depth",
                type=click.FloatRange(0, 1, max_open=True),
                help="Probability that a step drops the last block.",
            ),
        )
    ):
        packed = option(packed)
    return packed


@click.command()
@click.argument("variant")
@data_option
@recipe_options
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of weights, order and augmentation.")
@click.option("--validation", type=click.IntRange(min=0), default=0, help="Training images held out to judge on, to choose a recipe by.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Checkpoint to write  [default: VARIANT.safetensors]")
@click.option("--resume", is_flag=True, help="Continue from OUT.state; a run that is complete stays as it is.")
@click.option("--overwrite", is_flag=True, help="Discard what is at OUT.")
@click.option("--compile", is_flag=True, help="Through torch.compile: pays on GPUs and for long runs.")
@device_option
@precision_option
@threads_option
@one_line()
def fit(
    variant: str,
    data: Path,
    download: bool,
    recipe: str | None,
    epochs: int | None,
    changes: Changes,
    seed: int,
    validation: int,
    out: Path | None,
    resume: bool,
    overwrite: bool,
    compile: bool,  # noqa: A002  # the option's name
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train VARIANT (for example resnet20) and write a checkpoint after every epoch.

    Networks for 32x32 images are trained on CIFAR-10, others on a folder with train/CLASS/ and val/CLASS/, as ImageNet is laid out.

    A run killed at any moment continues with --resume and ends with the weights of an undisturbed one. What is at OUT is never
    overwritten without --overwrite.
    """
    find_variant(variant)
    settings = RunSettings(
        data, download, recipe, epochs, seed, resume, device, precision, threads, changes, overwrite, validation, compile
    )
    path = out or Path(f"{variant}.safetensors")
    info = train(variant, path, settings)
    print(f"{path}: {info.accuracy:.2f} % on {info.accuracy_images}")
