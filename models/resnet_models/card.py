"""Model cards: what a checkpoint says of itself, as Markdown for people."""

import hashlib
from pathlib import Path

from resnet_models.checkpoint import Checkpoint, CheckpointInfo
from resnet_models.evaluation import EvaluationSet
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import count_multiply_adds, count_parameters
from resnet_models.run_files import is_finished, planned_epochs
from resnet_models.variants import Variant

PAPER_ERROR = {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43}
"""CIFAR-10 test error in percent, He et al. (arXiv 1512.03385) Table 6; 10,000 images, the paper's recipe."""

PAPER_WIDTHS = {(16, 32, 64): "He et al., arXiv 1512.03385, section 4.2", (64, 128, 256, 512): "He et al., arXiv 1512.03385, Table 1"}
UNRECORDED = "not recorded"


def model_card(checkpoint: Checkpoint, path: Path, train: EvaluationSet | None = None) -> str:
    """Markdown that names accuracy, data, recipe, seed, arithmetic, the command that reproduces it, and the curve.

    `train` has the training error of files whose training recorded none.
    """
    info, network = checkpoint.info, checkpoint.network
    found = training_error(info, path, train)
    paper = PAPER_ERROR.get(info.variant)
    accuracy = "not measured" if info.accuracy is None else f"{info.accuracy:.2f} % top-1 on {info.accuracy_images}"
    variant, norm = network.variant, info.normalisation
    command, _, rows = info.source.partition(" on ")
    facts = {
        "File": f"`{path.name}`",
        "Network": f"{info.variant} ({origin(variant)}), {variant.block} blocks, option {variant.shortcut}",
        "Parameters": f"{count_parameters(network):,}",
        "Multiply-adds": f"{count_multiply_adds(network):,} for one image",
        "Input": f"{info.input_size}x{info.input_size} RGB, (p / 255 - mean) / std with mean {norm.mean}, std {norm.std}",
        "Classes": ", ".join(info.labels) if len(info.labels) <= 20 else f"{len(info.labels):,}",
        "Accuracy": accuracy,
        "The paper's": "none" if paper is None else f"{100 - paper:.2f} % (10,000 images, its own recipe of 164 epochs)",
        "Training error": UNRECORDED if found is None else f"{found[0]:.2f} % on {found[1]}, un-augmented, in eval mode",
        "Recipe": f"{describe_recipe(info)}, seed {info.seed}",
        "Arithmetic": arithmetic(info),
        "Reproduce": f"`{command} --data DIR`",
        "Data": rows,
        "Code": f"git revision `{info.git_revision}`",
    }
    lines = [f"# {info.variant} on {dataset(info)}", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    lines += ["", "Accuracy is of the last epoch; no epoch was picked by its test error.", "", "## Curve", ""]
    lines += ["Errors in percent; training error as seen, on augmented images.", ""]
    lines += ["| epoch | training loss | training error | test error |", "|---|---|---|---|"]
    lines += [f"| {p.epoch} | {p.train_loss:.4f} | {p.train_error:.2f} | {p.test_error:.2f} |" for p in info.curve]
    return "\n".join(lines) + "\n"


def origin(variant: Variant) -> str:
    """The paper that describes the network, or whose network it is."""
    paper = PAPER_WIDTHS.get(variant.widths) if variant.block in ("basic", "bottleneck", "plain") else None
    return paper or "a network of this project, after He et al., arXiv 1512.03385"


def dataset(info: CheckpointInfo) -> str:
    """The data set's name; of files without a training record the one that the labels are of."""
    if info.training is not None:
        return info.training.dataset
    return "CIFAR-10" if info.labels == CIFAR10_LABELS else "data of its own"


def describe_recipe(info: CheckpointInfo) -> str:
    """Recipe and length: `short, 40 epochs`, or `short, 10 of 40 planned epochs` of a run that was not completed."""
    planned = planned_epochs(info)
    length = f"{info.epochs} epochs" if is_finished(info) or planned is None else f"{info.epochs} of {planned} planned epochs"
    return f"{info.recipe}, {length}"


def training_error(info: CheckpointInfo, path: Path, train: EvaluationSet | None = None) -> tuple[float, str] | None:
    """The final network's error in percent on what it was trained on, un-augmented, in eval mode, and on how much of that."""
    if info.training is not None and info.training.train_error is not None:
        return info.training.train_error, "the training images"
    found = train.of_file(hashlib.sha256(path.read_bytes()).hexdigest()) if train else None
    if found is None:
        return None
    return found.error, "the training images" if found.images == trained_on(info) else f"the first {found.images:,} training images"


def trained_on(info: CheckpointInfo) -> int | None:
    """The number of training images, from the phrase that names them."""
    rows = info.source.partition(" on ")[2].partition(" ")[0].replace(",", "")
    return int(rows) if rows.isdigit() else None


def arithmetic(info: CheckpointInfo) -> str:
    """Precision, hardware, threads and PyTorch's version, on which the last bits of a reproduction depend."""
    record = info.training
    if record is None:
        return UNRECORDED
    threads = f", {record.threads} threads" if record.device == "cpu" else ""
    return f"{record.precision} on {record.hardware} ({record.device}{threads}), PyTorch {record.torch_version}, {record.seconds:,.0f} s"
