"""Checkpoints of others: torchvision's `.pth` and the published CIFAR files, read without running their pickles."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnet_models.checkpoint import Checkpoint, CheckpointInfo, load_state
from resnet_models.errors import CheckpointError
from resnet_models.network import ResNet
from resnet_models.normalisation import Normalisation
from resnet_models.variants import find_variant

IMAGENET_RESIZE = 256  # of the shorter side, before the centre of 224 is cropped: torchvision's V1 weights and the paper
PREFIX = "module."  # torch.nn.DataParallel wrote it
RENAMED = {"linear.": "fc.", "shortcut.": "downsample."}


@dataclass(frozen=True)
class ForeignFacts:
    """What such a file does not say of itself."""

    variant: str
    labels: tuple[str, ...]
    normalisation: Normalisation


def load_foreign(path: Path, facts: ForeignFacts) -> Checkpoint:
    """Read a state dict, bare or under `state_dict`; raise CheckpointError naming every key that does not fit."""
    variant = find_variant(facts.variant)
    network = ResNet(variant, len(facts.labels))
    load_state(network, read_state(path), path)
    resize = IMAGENET_RESIZE if variant.stem == "imagenet" else None
    info = CheckpointInfo(variant.name, facts.labels, facts.normalisation, variant.input_size, resize, source=f"weights of {path.name}")
    return Checkpoint(network.eval(), info)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors under our names; raise CheckpointError for a file that is no state dict."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a damaged file torch asks people to report its pickle protocol
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damaged bytes lead to: IndexError, AssertionError, struct.error
        reason = str(error).partition("\n")[0]
        raise CheckpointError(f"checkpoint: {path} cannot be read as PyTorch weights: {reason}") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"checkpoint: {path} holds no state dict of tensors")
    renamed = {_our_name(str(key)): value for key, value in state.items()}
    if len(renamed) != len(state):
        raise CheckpointError(f"checkpoint: {path} holds a tensor twice, under two of its names")
    return renamed


def _our_name(key: str) -> str:
    parts = key.removeprefix(PREFIX)
    for theirs, ours in RENAMED.items():
        if parts.startswith(theirs) or f".{theirs}" in parts:
            parts = parts.replace(theirs, ours)
    return parts
