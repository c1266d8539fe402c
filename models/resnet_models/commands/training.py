"""One training run as the commands start it: guarded, resumable, with a progress bar."""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_models.commands.options import use_threads
from resnet_models.variants import find_variant

if TYPE_CHECKING:  # these import torch, which takes seconds: not before the arguments are known to be good
    from resnet_models.checkpoint import CheckpointInfo, Epoch
    from resnet_models.data import Dataset
    from resnet_models.recipes import Changes
    from resnet_models.trainer import StepReport, Trainer


@dataclass(frozen=True)
class RunSettings:
    """What the commands that train have in common; `validation`: training images held out to judge on instead of the test images."""

    data: Path
    download: bool
    recipe: str | None
    epochs: int | None
    seed: int
    resume: bool
    device: str
    precision: str
    threads: int | None
    changes: "Changes | None" = None
    overwrite: bool = False
    validation: int = 0
    compile: bool = False


def train(variant: str, path: Path, settings: RunSettings) -> "CheckpointInfo":
    """Train one network into `path`, or say that it is trained; Ctrl-C and worse leave what `--resume` continues from."""
    from resnet_models.devices import pick_device
    from resnet_models.run_files import finished_run, held

    use_threads(settings.threads)
    pick_device(settings.device)  # say what is wrong with it before minutes go into reading images
    data = load(settings, variant)
    with held(path):
        trainer = make_trainer(variant, path, settings, data)
        plan = trainer.plan
        if done := finished_run(path, trainer.identity(), resume=settings.resume, overwrite=settings.overwrite):
            print(f"{path}: complete, {plan.epochs} epochs; nothing to do")
            return done
        epochs = trainer.resume()
        start = f", continuing after epoch {epochs}" if epochs else ""
        what = f"{plan.epochs} epochs, recipe {plan.recipe.name}, seed {plan.seed}, {plan.precision} on {plan.device}"
        print(f"{variant}: {what}{start}", flush=True)
        try:
            return run_with_progress(trainer)
        except KeyboardInterrupt:
            raise click.ClickException(f"interrupted; --resume continues from {plan.state_path}") from None


def load(settings: RunSettings, variant: str) -> "Dataset":
    """The images that `variant` is trained on."""
    from resnet_models.data import load_cifar10
    from resnet_models.folder import load_image_folder

    row = find_variant(variant)
    if row.stem != "cifar":
        if settings.validation:
            raise click.BadParameter(f"{settings.validation}; only CIFAR-10's training images can be held out", param_hint="validation")
        return load_image_folder(settings.data, row.input_size)
    data = load_cifar10(settings.data, download=settings.download)
    return data.holding_out(settings.validation) if settings.validation else data


def make_trainer(variant: str, path: Path, settings: RunSettings, data: "Dataset") -> "Trainer":
    """The trainer of one run."""
    from resnet_models.devices import pick_device, pick_precision
    from resnet_models.normalisation import CIFAR10, IMAGENET
    from resnet_models.recipes import find_recipe
    from resnet_models.trainer import Trainer
    from resnet_models.training_plan import TrainingPlan

    row = find_variant(variant)
    imagenet = row.stem != "cifar"
    recipe = find_recipe(settings.recipe or ("imagenet" if imagenet else "short"), row, settings.changes)
    device = pick_device(settings.device)
    precision = pick_precision(settings.precision, device)
    length = settings.epochs or recipe.epochs
    statistics = IMAGENET if imagenet else CIFAR10
    plan = TrainingPlan(row, recipe, length, settings.seed, path, statistics, device, precision, settings.compile)
    return Trainer(plan, data)


def run_with_progress(trainer: "Trainer") -> "CheckpointInfo":
    """Show a bar on a terminal, and a line an epoch everywhere."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(),
    )
    epochs, steps = trainer.plan.epochs, trainer.steps
    done = len(trainer.curve)
    started = time.monotonic()
    with Progress(*columns, console=Console(file=sys.stderr), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=epochs * steps, completed=done * steps, epoch=done + 1, epochs=epochs, figures="")

        def on_step(report: "StepReport") -> None:
            figures = f"loss {report.loss:.3f}  accuracy {100 - report.train_error:.2f} %"
            bar.update(task, completed=report.epoch * steps + report.step, epoch=report.epoch + 1, figures=figures)

        def on_epoch(point: "Epoch") -> None:
            spent = time.monotonic() - started
            left = spent / (point.epoch - done) * (epochs - point.epoch)
            bar.console.print(
                f"epoch {point.epoch}/{epochs}  loss {point.train_loss:.4f}  train error {point.train_error:.2f} %"
                f"  test error {point.test_error:.2f} %  {spent:.0f} s spent, {left:.0f} s left",
                soft_wrap=True,
            )

        return trainer.run(on_step, on_epoch)
