"""What a benchmark sends: real certification images where the repository is at hand, else generated ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resnet_proto.manifest import check_digest
from resnet_proto.manifest_pb2 import Manifest

GENERATED = 64
SEED = 20


@dataclass(frozen=True)
class Material:
    """`images` UINT8 [n, h, w, 3], all different; `classes` INT64 [n] is the reference's top-1, None if unknown."""

    images: NDArray[np.uint8]
    classes: NDArray[np.int64] | None

    def window(self, start: int, rows: int) -> "Material":
        """`rows` images from `start`, wrapping around."""
        index = np.arange(start, start + rows) % len(self.images)
        return Material(self.images[index], None if self.classes is None else self.classes[index])


def material_of(manifest: Manifest, folder: Path | None) -> Material:
    """The replay sample of the version in `folder`, or noise of the right size."""
    if folder is not None and manifest.HasField("replay"):
        with np.load(check_digest(folder, manifest.replay.file, manifest.replay.sha256)) as file:
            return Material(file["images"], file["logits"].argmax(1))
    shape = (GENERATED, manifest.input.height, manifest.input.width, manifest.input.channels or 3)
    return Material(np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8), None)
