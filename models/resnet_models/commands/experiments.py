"""`resnet-train degradation` and `seeds`: several runs that belong together."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from resnet_models.commands.fit import recipe_options
from resnet_models.commands.options import data_option, device_option, precision_option, threads_option
from resnet_models.commands.training import RunSettings, load, make_trainer, train
from resnet_models.one_line import one_line
from resnet_models.recipes import Changes
from resnet_models.variants import find_variant

if TYPE_CHECKING:
    from resnet_models.checkpoint import CheckpointInfo


@click.command()
@data_option
@click.option("--depths", default="20,56", help="Shallow and deep, of 20, 32, 44, 56 and 110.")
@recipe_options
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of every run.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for all that comes of it.")
@click.option("--reuse", type=click.Path(path_type=Path), help="Folder of checkpoints to take where recipe, length, seed and images agree.")
@device_option
@precision_option
@threads_option
@one_line()
def degradation(
    data: Path,
    download: bool,
    depths: str,
    recipe: str | None,
    epochs: int | None,
    changes: Changes,
    seed: int,
    out: Path,
    reuse: Path | None,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train a plain and a residual network at two depths and say whether depth degrades or helps (the paper's Fig. 6).

    An interrupted experiment continues where it was when the command is given again; a folder with another experiment's networks is
    refused.
    """
    from resnet_models import degradation as experiment
    from resnet_models.plots import draw_degradation

    names = experiment.networks(parse_depths(depths))
    settings = RunSettings(data, download, recipe, epochs, seed, True, device, precision, threads, changes)
    images = load(settings, names[0])

    def find(name: str) -> "CheckpointInfo | None":
        wanted = make_trainer(name, out / f"{name}.safetensors", settings, images).identity()
        if reuse and not (out / f"{name}.safetensors").exists() and (info := experiment.reusable(reuse / f"{name}.safetensors", wanted)):
            print(f"{name}: taken from {reuse}")
            return info
        return None

    runs = experiment.run_experiment(names, find, lambda name: train(name, out / f"{name}.safetensors", settings))
    experiment.write_curves(runs, out / "curves.csv")
    draw_degradation(runs, out / "degradation.png")
    text = experiment.verdict(runs)
    (out / "verdict.txt").write_text(text, encoding="utf-8")
    print(f"\n{text}\n{out / 'curves.csv'}, {out / 'degradation.png'}, {out / 'verdict.txt'}")


@click.command()
@click.argument("variants", nargs=-1, required=True, metavar="VARIANT...")
@data_option
@click.option("--seeds", type=click.IntRange(min=1), default=3, help="Train with the seeds 1 to this.")
@recipe_options
@click.option("--validation", type=click.IntRange(min=0), default=0, help="As in fit.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder: VARIANT-seedN.safetensors, seeds.json."
)
@device_option
@precision_option
@threads_option
@one_line()
def seeds(
    variants: tuple[str, ...],
    data: Path,
    download: bool,
    seeds: int,
    recipe: str | None,
    epochs: int | None,
    changes: Changes,
    validation: int,
    out: Path,
    device: str,
    precision: str,
    threads: int | None,
) -> None:
    """Train each VARIANT with several seeds and give the mean error with its interval.

    Made for the background of a busy machine: given again after whatever ended it, the command continues where it was; each run
    that is complete stays. `nice -n 19 resnet-train seeds resnet110 plain110 --seeds 3 --data DIR --out DIR --threads 1`.
    """
    from resnet_models.seeds import summarise, write_summary

    for variant in variants:
        find_variant(variant)
    settings = RunSettings(data, download, recipe, epochs, 1, True, device, precision, threads, changes, validation=validation)
    found = []
    for seed in range(1, seeds + 1):  # all networks with one seed before any with the next: an early end leaves whole comparisons
        for variant in variants:
            found.append(train(variant, out / f"{variant}-seed{seed}.safetensors", replace(settings, seed=seed)))
            summary = summarise(found)
            write_summary(summary, out / "seeds.json")
    for row in summary:
        print(f"{row.variant}, {len(row.seeds)} seeds: test error {row.test_error} %, training error {row.train_error} %")
    print(out / "seeds.json")


def parse_depths(text: str) -> tuple[int, int]:
    """`20,56` to its two numbers; fail with what was expected."""
    try:
        shallow, deep = (int(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"'{text}'; expected two depths such as 20,56", param_hint="depths") from None
    return shallow, deep
