"""Input normalisation: a pixel p of channel c becomes (p / 255 - mean[c]) / std[c]."""

from dataclasses import dataclass

Triple = tuple[float, ...]
"""A number for each channel; three of them for colour images."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the network's channels, in its own order, on the scale 0..1."""

    mean: Triple
    std: Triple


CIFAR10 = Normalisation((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
"""Channel statistics of the CIFAR-10 training images."""

IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Channel statistics of ImageNet as torchvision's weights use them."""
