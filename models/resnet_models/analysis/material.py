"""The images that analyses look at: bundled, so that every figure can be made again from the repository alone."""

from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_models.augment import normalise
from resnet_models.normalisation import CIFAR10, Normalisation
from resnet_models.sample import load_sample


@dataclass(frozen=True)
class Material:
    """Normalised FP32 [n, 3, 32, 32], INT64 [n], and the same images as UINT8 [n, 32, 32, 3]."""

    images: Tensor
    labels: Tensor
    pixels: Tensor


def material(count: int, seed: int, normalisation: Normalisation = CIFAR10) -> Material:
    """`count` bundled test images in an order that mixes the classes."""
    sample = load_sample()
    order = torch.randperm(len(sample.labels), generator=torch.Generator().manual_seed(seed))[:count]
    pixels = torch.from_numpy(sample.images.copy())[order]
    return Material(normalise(pixels.permute(0, 3, 1, 2), normalisation), torch.from_numpy(sample.labels.copy())[order], pixels)
