"""All measurements of one network, with its plain twin where there is one."""

import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_models.analysis.activations import Seen, look, residual_magnitudes
from resnet_models.analysis.ensemble import Lesions, PathGradients, lesions, path_gradients
from resnet_models.analysis.gradients import GradientProfile, gradient_profile
from resnet_models.augment import normalise
from resnet_models.checkpoint import Checkpoint
from resnet_models.errors import ResnetModelsError
from resnet_models.network import ResNet, build
from resnet_models.normalisation import Normalisation
from resnet_models.sample import load_sample

GRADIENT_IMAGES = 128
PATH_IMAGES = 32
SHOWN = 4


@dataclass(frozen=True)
class Study:
    """What was measured; twin's entries are None where no trained plain twin was given."""

    name: str
    twin_name: str
    initial: GradientProfile
    twin_initial: GradientProfile
    trained: GradientProfile
    twin_trained: GradientProfile | None
    paths: PathGradients
    lesions: Lesions
    twin_lesions: Lesions | None
    magnitudes: list[float]
    shown: list[tuple[Tensor, str, Seen]]
    labels: tuple[str, ...]
    images: int
    source: str


def run_study(checkpoint: Checkpoint, twin: Checkpoint | None, count: int, seed: int, on_step: Callable[[str], None]) -> Study:
    """Measure on the first `count` bundled test images (in an order that mixes the classes); about a minute for ResNet-20.

    Raises ResnetModelsError if the checkpoint is not a residual network for 32x32 images, or the twin not its plain twin.
    """
    variant = checkpoint.network.variant
    twin_name = variant.name.replace("resnet", "plain")
    check(checkpoint, twin, twin_name)
    images, labels, pixels = _material(count, seed, checkpoint.info.normalisation)
    torch.manual_seed(seed)
    fresh, fresh_twin = build(variant.name), build(twin_name)
    few, few_labels = images[:GRADIENT_IMAGES], labels[:GRADIENT_IMAGES]

    def gradients(network: ResNet) -> GradientProfile:
        return gradient_profile(network, few, few_labels)

    on_step("gradients")
    profiles = gradients(settled(fresh, few)), gradients(settled(fresh_twin, few)), gradients(checkpoint.network)
    on_step("paths")
    paths = path_gradients(checkpoint.network, images[:PATH_IMAGES], labels[:PATH_IMAGES], random.Random(seed))  # noqa: S311  # sampling
    on_step("lesions")
    hurt = lesions(checkpoint.network, images, labels, random.Random(seed))  # noqa: S311
    twin_hurt = lesions(twin.network, images, labels, random.Random(seed)) if twin else None  # noqa: S311
    on_step("activations")
    names = checkpoint.info.labels
    shown = [(pixels[i], names[int(labels[i])], look(checkpoint.network, images[i : i + 1])) for i in range(SHOWN)]
    return Study(
        variant.name,
        twin_name,
        *profiles,
        gradients(twin.network) if twin else None,
        paths,
        hurt,
        twin_hurt,
        residual_magnitudes(checkpoint.network, few),
        shown,
        names,
        len(labels),
        load_sample().source,
    )


def check(checkpoint: Checkpoint, twin: Checkpoint | None, twin_name: str) -> None:
    """Raise ResnetModelsError for networks this analysis does not fit."""
    variant = checkpoint.network.variant
    if variant.block != "basic" or variant.stem != "cifar" or variant.shortcut != "A":
        raise ResnetModelsError(f"checkpoint: is a {variant.name}; expected a residual CIFAR network with a plain twin, such as resnet20")
    if twin is not None and twin.network.variant.name != twin_name:
        raise ResnetModelsError(f"twin: is a {twin.network.variant.name}; expected {twin_name}")


def settled(network: ResNet, images: Tensor) -> ResNet:
    """The network with batch statistics of `images`, as training would begin with, in eval mode."""
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(images)
    return network.eval()


def _material(count: int, seed: int, normalisation: Normalisation) -> tuple[Tensor, Tensor, Tensor]:
    sample = load_sample()
    order = torch.randperm(len(sample.labels), generator=torch.Generator().manual_seed(seed))[:count]
    pixels = torch.from_numpy(sample.images.copy())[order]
    labels = torch.from_numpy(sample.labels.copy())[order]
    return normalise(pixels.permute(0, 3, 1, 2), normalisation), labels, pixels
