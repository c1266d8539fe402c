"""Command line `resnet-train`."""

import functools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_models.errors import ResnetModelsError
from resnet_models.variants import find_variant

if TYPE_CHECKING:  # these import torch, which takes seconds: not before the arguments are known to be good
    from resnet_models.checkpoint import CheckpointInfo, Epoch
    from resnet_models.trainer import StepReport, Trainer

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

    return wrapped


precision_option = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    envvar="RESNET_TRAIN_PRECISION",
    show_envvar=True,
    help="bf16: autocast; auto: where the hardware has it.",
)


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Train the residual networks of He et al. on CIFAR-10."""


@main.command()
@click.argument("variant")
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with CIFAR-10 as .npz pair or as torchvision has it.")
@click.option("--download", is_flag=True, help="Fetch CIFAR-10 into --data through torchvision if it is not there.")
@click.option("--recipe", type=click.Choice(["paper", "short"]), default="short", help="Schedule and constants.")
@click.option("--epochs", type=click.IntRange(min=1), help="Length of the run  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Seed of weights, order and augmentation.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Checkpoint to write  [default: VARIANT.safetensors]")
@click.option("--resume", is_flag=True, help="Continue from OUT.state if it is there.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@precision_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]")
@one_line_errors
def fit(
    variant: str,
    data: Path,
    download: bool,
    recipe: str,
    epochs: int | None,
    seed: int,
    out: Path | None,
    resume: bool,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train VARIANT (for example resnet20) and write a checkpoint after every epoch."""
    row = find_variant(variant)
    if row.stem != "cifar":
        raise click.BadParameter(
            f"'{variant}' takes {row.input_size}x{row.input_size} images; only CIFAR variants are trained here", param_hint="variant"
        )
    settings = RunSettings(data, download, recipe, epochs, seed, resume, device, precision, threads)
    path = out or Path(f"{variant}.safetensors")
    info = train(variant, path, settings)
    print(f"{path}: {info.accuracy:.2f} % on {info.accuracy_images}")


@dataclass(frozen=True)
class RunSettings:
    """The options that `fit` and `degradation` share."""

    data: Path
    download: bool
    recipe: str
    epochs: int | None
    seed: int
    resume: bool
    device: str
    precision: str
    threads: int | None


def train(variant: str, path: Path, settings: RunSettings) -> "CheckpointInfo":
    """Train one network into `path`, with a progress bar; Ctrl-C leaves what `--resume` continues from."""
    import torch

    from resnet_models.data import load_cifar10
    from resnet_models.devices import pick_device, pick_precision
    from resnet_models.recipes import find_recipe
    from resnet_models.trainer import Trainer, TrainingPlan

    if settings.threads:
        torch.set_num_threads(settings.threads)
    row = find_variant(variant)
    schedule = find_recipe(settings.recipe, row)
    target = pick_device(settings.device)
    precision = pick_precision(settings.precision, target)
    plan = TrainingPlan(row, schedule, settings.epochs or schedule.epochs, settings.seed, path, device=target, precision=precision)
    trainer = Trainer(plan, load_cifar10(settings.data, download=settings.download))
    done = trainer.resume() if settings.resume else 0
    start = f", continuing after epoch {done}" if done else ""
    print(f"{variant}: {plan.epochs} epochs, recipe {schedule.name}, seed {plan.seed}, {precision} on {target}{start}", flush=True)
    try:
        return run_with_progress(trainer)
    except KeyboardInterrupt:
        raise click.ClickException(f"interrupted; --resume continues from {plan.state_path}") from None


@main.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder with CIFAR-10, as in fit.")
@click.option("--download", is_flag=True, help="Fetch CIFAR-10 through torchvision if it is not there.")
@click.option("--depths", default="20,56", help="Shallow and deep, of 20, 32, 44, 56 and 110.")
@click.option("--recipe", type=click.Choice(["paper", "short"]), default="short", help="Schedule and constants.")
@click.option("--epochs", type=click.IntRange(min=1), help="Length of each run  [default: the recipe's]")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of every run.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for all that comes of it.")
@click.option("--reuse", type=click.Path(path_type=Path), help="Folder of checkpoints to take where recipe, length and seed agree.")
@click.option("--device", default="auto", help="auto, cpu or cuda.")
@precision_option
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]")
@one_line_errors
def degradation(
    data: Path,
    download: bool,
    depths: str,
    recipe: str,
    epochs: int | None,
    seed: int,
    out: Path,
    reuse: Path | None,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train a plain and a residual network at two depths and say whether depth degrades or helps (the paper's Fig. 6).

    An interrupted experiment continues where it was when the command is given again.
    """
    from resnet_models import degradation as experiment
    from resnet_models.plots import draw_degradation
    from resnet_models.recipes import find_recipe

    names = experiment.networks(parse_depths(depths))
    settings = RunSettings(data, download, recipe, epochs, seed, True, device, precision, threads)
    length = epochs or find_recipe(recipe, find_variant(names[0])).epochs

    def find(name: str) -> "CheckpointInfo | None":
        for folder in (out, *([reuse] if reuse else [])):
            if info := experiment.reusable(folder / f"{name}.safetensors", recipe, length, seed):
                print(f"{name}: taken from {folder}")
                return info
        return None

    runs = experiment.run_experiment(names, find, lambda name: train(name, out / f"{name}.safetensors", settings))
    experiment.write_curves(runs, out / "curves.csv")
    draw_degradation(runs, out / "degradation.png")
    text = experiment.verdict(runs)
    (out / "verdict.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}\n{out / 'curves.csv'}, {out / 'degradation.png'}, {out / 'verdict.txt'}")


def parse_depths(text: str) -> tuple[int, int]:
    """`20,56` to its two numbers; fail with what was expected."""
    try:
        shallow, deep = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}'; expected two depths such as 20,56", param_hint="depths") from None
    return shallow, deep


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


@main.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@one_line_errors
def card(checkpoints: tuple[Path, ...]) -> None:
    """Write a model card in Markdown beside each CHECKPOINT."""
    from resnet_models.card import model_card
    from resnet_models.checkpoint import load_checkpoint

    for path in checkpoints:
        target = path.with_suffix(".md")
        target.write_text(model_card(load_checkpoint(path), path), encoding="utf-8")
        print(target)


@main.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--twin", type=click.Path(path_type=Path), help="Checkpoint of the plain twin, for the same plots.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file  [default: VARIANT.html]")
@click.option("--images", type=click.IntRange(10, 1000), default=500, help="Bundled test images for the lesions.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of initial weights, sampled paths and draws.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]")
@one_line_errors
def analyze(checkpoint: Path, twin: Path | None, out: Path | None, images: int, seed: int, threads: int | None) -> None:
    """Write a report on CHECKPOINT: gradient highway, paths, lesions, residual magnitudes, activations."""
    import torch

    from resnet_models.analysis.report import write_report
    from resnet_models.analysis.study import run_study
    from resnet_models.checkpoint import load_checkpoint

    if threads:
        torch.set_num_threads(threads)
    with Console(file=sys.stderr).status("") as status:
        loaded = load_checkpoint(checkpoint)
        study = run_study(loaded, load_checkpoint(twin) if twin else None, images, seed, lambda text: status.update(f"{text} ..."))
    path = out or Path(f"{study.name}.html")
    options = [f"--twin {twin.name}"] if twin else []
    write_report(study, " ".join(["resnet-train analyze", checkpoint.name, *options, f"--images {images} --seed {seed}"]), path)
    print(path)
