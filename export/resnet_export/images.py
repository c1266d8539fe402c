"""The images a certificate is made on."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.sample import SampleName, load_sample
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import channels_of

from resnet_export.image_folder import read_photographs

GENERATED = 256


@dataclass(frozen=True)
class ImageSet:
    """`images` UINT8 [n, h, w, 3]; `labels` INT64 [n] or None; a name for each image and a phrase for all.

    `available` is how many there were to draw from, 0 where all were used; `generated` images are no photographs.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    names: tuple[str, ...]
    source: str
    available: int = 0
    generated: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sha256(self) -> str:
        """Digest of the pixels."""
        return hashlib.sha256(np.ascontiguousarray(self.images).tobytes()).hexdigest()


def choose_images(spec: Input, labels: tuple[str, ...], folder: Path | None, most: int | None = None) -> ImageSet:
    """The folder's images if one is given, else the bundled ones where they fit, else generated ones that say so."""
    if folder is not None:
        return from_folder(folder, spec, labels, most)
    if (spec.height, spec.width, channels_of(spec)) == (32, 32, 3):
        return bundled_for(labels)
    return generated(spec, GENERATED)


def bundled(name: SampleName) -> ImageSet:
    """A CIFAR-10 sample that comes with the project."""
    sample = load_sample(name)
    names = tuple(f"{name} image {i}" for i in range(len(sample.images)))
    return ImageSet(sample.images, sample.labels, names, sample.source)


def bundled_for(labels: tuple[str, ...]) -> ImageSet:
    """The certification sample; without its truth for a network of other classes, whose accuracy on CIFAR-10 would mean nothing."""
    images = bundled("certification")
    if tuple(label.lower() for label in labels) == CIFAR10_LABELS:
        return images
    return replace(images, labels=None, source=f"{images.source}; no accuracy, since the network's labels are not CIFAR-10's")


def generated(spec: Input, count: int) -> ImageSet:
    """Smooth noise with the statistics of no photograph: enough to compare two graphs, not to measure accuracy."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (count, 8, 8, channels_of(spec)), dtype=np.uint8)
    size = (spec.width, spec.height)
    planes = [
        np.stack([np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BICUBIC)) for plane in tile.transpose(2, 0, 1)], axis=-1)
        for tile in coarse
    ]
    images = np.stack(planes)
    names = tuple(f"generated image {i}" for i in range(count))
    return ImageSet(images, None, names, f"{count} generated images, not photographs", generated=True)


def from_folder(folder: Path, spec: Input, labels: tuple[str, ...], most: int | None = None) -> ImageSet:
    """The photographs below `folder`, or `most` of them; raise ExportError as `read_photographs` does."""
    found = read_photographs(folder, spec, labels, most)
    drawn = "" if len(found.images) == found.available else f", drawn over its folders from {found.available:,}"
    source = f"{len(found.images):,} images of the folder {folder.name}{drawn}"
    return ImageSet(found.images, found.labels, found.names, source, found.available if drawn else 0)
