"""Model cards: what a checkpoint says of itself, as Markdown for people."""

from pathlib import Path

from resnet_models.checkpoint import Checkpoint
from resnet_models.network import count_multiply_adds, count_parameters

PAPER_ERROR = {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43}
"""CIFAR-10 test error in percent, He et al. (arXiv 1512.03385) Table 6; 10,000 images, the paper's recipe."""


def model_card(checkpoint: Checkpoint, path: Path) -> str:
    """Markdown that names accuracy, data, recipe, seed, the command that reproduces it, and the curve."""
    info, network = checkpoint.info, checkpoint.network
    paper = PAPER_ERROR.get(info.variant)
    accuracy = "not measured" if info.accuracy is None else f"{info.accuracy:.2f} % top-1 on {info.accuracy_images}"
    variant, norm = network.variant, info.normalisation
    facts = {
        "File": f"`{path.name}`",
        "Network": f"{info.variant} (He et al., arXiv 1512.03385, section 4.2), {variant.block} blocks, option {variant.shortcut}",
        "Parameters": f"{count_parameters(network):,}",
        "Multiply-adds": f"{count_multiply_adds(network):,} for one image",
        "Input": f"{info.input_size}x{info.input_size} RGB, (p / 255 - mean) / std with mean {norm.mean}, std {norm.std}",
        "Classes": ", ".join(info.labels),
        "Accuracy": accuracy,
        "The paper's": "none" if paper is None else f"{100 - paper:.2f} % (10,000 images, its own recipe of 164 epochs)",
        "Recipe": f"{info.recipe}, {info.epochs} epochs, seed {info.seed}",
        "Reproduce": f"`{info.source.partition(' on ')[0]} --data DIR`",
        "Data": info.source.partition(" on ")[2],
        "Code": f"git revision `{info.git_revision}`",
    }
    lines = [f"# {info.variant} on CIFAR-10", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in facts.items())]
    lines += ["", "Accuracy is of the last epoch; no epoch was picked by its test error.", "", "## Curve", ""]
    lines += ["Errors in percent; training error as seen, on augmented images.", ""]
    lines += ["| epoch | training loss | training error | test error |", "|---|---|---|---|"]
    lines += [f"| {p.epoch} | {p.train_loss:.4f} | {p.train_error:.2f} | {p.test_error:.2f} |" for p in info.curve]
    return "\n".join(lines) + "\n"
