"""The bundled CIFAR-10 samples: real images for certification, calibration, tests and the demo. Needs numpy only.

`certification` holds 1,000 test images, 100 of each class; `calibration` 500 training images, 50 of each class,
so the two are disjoint by construction. Both come from pixel-exact rows of CIFAR-10 (Krizhevsky 2009).
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Literal

import numpy as np
from numpy.typing import NDArray

SampleName = Literal["certification", "calibration"]


@dataclass(frozen=True)
class Sample:
    """`images` UINT8 [n, 32, 32, 3] RGB, `labels` INT64 [n] class indices, and a phrase that says which images."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    source: str


SOURCES = {"certification": "1,000 bundled CIFAR-10 test images", "calibration": "500 bundled CIFAR-10 training images"}


@cache
def load_sample(name: SampleName = "certification") -> Sample:
    """Load a bundled sample; the arrays are shared and read-only."""
    with as_file(files("resnet_models") / "samples" / f"{name}.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"].astype(np.int64)
    images.flags.writeable = labels.flags.writeable = False
    return Sample(images, labels, SOURCES[name])
