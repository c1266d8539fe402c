"""`resnet-train analyze` and `card`: what a trained network is."""

import sys
from pathlib import Path

import click
from rich.console import Console

from resnet_models.commands.options import one_line_errors, threads_option, use_threads


@click.command()
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


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--twin", type=click.Path(path_type=Path), help="Checkpoint of the plain twin, for the same plots.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file  [default: VARIANT.html]")
@click.option("--images", type=click.IntRange(10, 1000), default=500, help="Bundled test images for the lesions.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of initial weights, sampled paths and draws.")
@threads_option
@one_line_errors
def analyze(checkpoint: Path, twin: Path | None, out: Path | None, images: int, seed: int, threads: int | None) -> None:
    """Write a report on CHECKPOINT: gradient highway, paths, lesions, residual magnitudes, activations."""
    from resnet_models.analysis.report import write_report
    from resnet_models.analysis.study import run_study
    from resnet_models.checkpoint import load_checkpoint

    use_threads(threads)
    with Console(file=sys.stderr).status("") as status:
        loaded = load_checkpoint(checkpoint)
        study = run_study(loaded, load_checkpoint(twin) if twin else None, images, seed, lambda text: status.update(f"{text} ..."))
    path = out or Path(f"{study.name}.html")
    options = [f"--twin {twin.name}"] if twin else []
    write_report(study, " ".join(["resnet-train analyze", checkpoint.name, *options, f"--images {images} --seed {seed}"]), path)
    print(path)
