"""Networks that are not in a file of ours: torchvision's pretrained weights, and random weights for measuring speed."""

import urllib.error
from pathlib import Path
from typing import Any

import torch
import torchvision

from resnet_models.checkpoint import Checkpoint, CheckpointInfo, load_state, save_checkpoint
from resnet_models.errors import CheckpointError
from resnet_models.foreign import IMAGENET_RESIZE
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import ResNet
from resnet_models.normalisation import CIFAR10, IMAGENET, Normalisation
from resnet_models.variants import find_variant

SETTLING_BATCHES = 4


def from_torchvision(name: str, weights_name: str = "DEFAULT") -> Checkpoint:
    """Download torchvision's weights of `name` (`V1`, `V2` or `DEFAULT`) with their preprocessing and labels.

    Raises CheckpointError for a variant or weights that torchvision does not have and, where there is no network,
    saying which file belongs where.
    """
    weights = _weights(name, weights_name)
    variant = find_variant(name)
    network = ResNet(variant)
    try:
        state = weights.get_state_dict(progress=True, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        target = weights_file(name, weights_name)
        raise CheckpointError(f"torchvision: {name} cannot be downloaded ({error}); put {weights.url} at {target} and try again") from None
    load_state(network, state, Path(Path(weights.url).name))
    theirs = torchvision.models.get_model(name, weights=None)
    theirs.load_state_dict(state)
    recipe, meta = weights.transforms(), weights.meta
    info = CheckpointInfo(
        name,
        tuple(meta["categories"]),
        Normalisation(tuple(recipe.mean), tuple(recipe.std)),
        recipe.crop_size[0],
        recipe.resize_size[0],
        recipe.interpolation.value,
        accuracy=meta["_metrics"]["ImageNet-1K"]["acc@1"],
        accuracy_images="50,000 ImageNet validation images, as torchvision states",
        source=f"torchvision {weights}",
        reference=f"torchvision's {name}",
    )
    return Checkpoint(network.eval(), info, theirs.eval())


def _weights(name: str, weights_name: str) -> Any:
    try:
        choices = torchvision.models.get_model_weights(name)
        return choices[weights_name if weights_name == "DEFAULT" else f"IMAGENET1K_{weights_name}"]
    except (ValueError, KeyError):
        raise CheckpointError(f"torchvision: it has no weights '{weights_name}' of {name}") from None


def weights_file(name: str, weights_name: str = "DEFAULT") -> Path:
    """Where torchvision keeps the file it downloads."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(_weights(name, weights_name).url).name


def with_random_weights(name: str, seed: int = 0) -> Checkpoint:
    """He-initialised weights, for measuring speed only.

    Batch statistics are measured on noise; at their initial 0 and 1 the activations of a deep residual network
    double from block to block and no comparison of logits means anything.
    """
    variant = find_variant(name)
    torch.manual_seed(seed)
    network = ResNet(variant)
    imagenet = variant.stem == "imagenet"
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over the batches
    with torch.no_grad():
        network.train()
        for _ in range(SETTLING_BATCHES):
            network(torch.randn(8, 3, variant.input_size, variant.input_size))
    for norm in norms:
        norm.momentum = 0.1
    labels = tuple(f"class {index}" for index in range(variant.classes)) if imagenet else CIFAR10_LABELS
    statistics, resize = (IMAGENET, IMAGENET_RESIZE) if imagenet else (CIFAR10, None)
    info = CheckpointInfo(name, labels, statistics, variant.input_size, resize, trained=False, seed=seed, source="random weights")
    return Checkpoint(network.eval(), info)


def keep(checkpoint: Checkpoint, path: Path) -> Path:
    """Write the checkpoint in our format, so that a manifest can name its digest."""
    save_checkpoint(path, checkpoint.network, checkpoint.info)
    return path
