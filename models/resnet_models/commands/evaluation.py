"""`resnet-train evaluate`: what trained networks get wrong."""

from pathlib import Path

import click

from resnet_models.commands.options import data_option, threads_option, use_threads
from resnet_models.one_line import one_line


@click.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@data_option
@click.option("--split", type=click.Choice(["train", "test"]), default="test", help="Images to use, un-augmented.")
@click.option("--validation", type=click.IntRange(min=0), default=0, help="Use the training images that `fit --validation N` held out.")
@click.option("--flip", is_flag=True, help="Count also what the mean of each image's and its mirror image's logits gets wrong.")
@click.option("--limit", type=click.IntRange(min=1), help="Only the first so many images; CIFAR-10 is in random order  [default: all]")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="JSON file to write.")
@threads_option
@one_line()
def evaluate(
    checkpoints: tuple[Path, ...],
    data: Path,
    download: bool,
    split: str,
    validation: int,
    flip: bool,
    limit: int | None,
    out: Path,
    threads: int | None,
) -> None:
    """Count what each CHECKPOINT gets wrong, in eval mode and fp32, image by image, so that networks can be compared in pairs.

    Checkpoints that OUT has already, of the same images, are not evaluated again: networks can be added to a file.
    """
    from resnet_models.data import load_cifar10
    from resnet_models.evaluation import Evaluation, evaluate_checkpoints
    from resnet_models.statistics import error_interval

    def show(found: Evaluation) -> None:
        how = ", with the mirror image" if found.flip else ""
        print(f"{found.network}: {error_interval(found.wrong, found.images)} % wrong of {found.images:,}{how}", flush=True)

    use_threads(threads)
    both = load_cifar10(data, download=download)
    images = both.holding_out(validation).test if validation else both.train if split == "train" else both.test
    which = f"--validation {validation}" if validation else f"--split {split}"
    words = ["resnet-train evaluate CHECKPOINT... --data DIR", which, *["--flip"] * flip, *[f"--limit {limit}"] * bool(limit)]
    command = " ".join([*words, f"--out {out.name}"])
    evaluate_checkpoints(checkpoints, images.head(limit) if limit else images, out, show, flip=flip, command=command)
    print(out)
