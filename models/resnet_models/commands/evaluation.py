"""`resnet-train evaluate`: what trained networks get wrong."""

from pathlib import Path

import click

from resnet_models.commands.options import data_option, threads_option, use_threads
from resnet_models.one_line import one_line


@click.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@data_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", help="Images to use, un-augmented.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images; CIFAR-10 is in random order  [default: all]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSON file to write.")
@threads_option
@one_line()
def evaluate(
    checkpoints: tuple[Path, ...], data: Path, download: bool, split: str, limit: int | None, out: Path, threads: int | None
) -> None:
    """Count what each CHECKPOINT gets wrong, in eval mode and fp32, image by image, so that networks can be compared in pairs."""
    from resnet_models.data import load_cifar10
    from resnet_models.evaluation import Evaluation, evaluate_checkpoints, write_evaluations
    from resnet_models.statistics import error_interval

    def show(found: Evaluation) -> None:
        print(f"{found.network}: {error_interval(found.wrong, found.images)} % wrong of {found.images:,}", flush=True)

    use_threads(threads)
    both = load_cifar10(data, download=download)
    images = both.train if split == "train" else both.test
    found = evaluate_checkpoints(checkpoints, images.head(limit) if limit else images, show)
    names = " ".join(path.name for path in checkpoints)
    write_evaluations(
        found, f"resnet-train evaluate {names} --data DIR --split {split}{f' --limit {limit}' if limit else ''} --out {out.name}", out
    )
    print(out)
