"""The sample that is replayed where a version is served."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from resnet_proto.manifest import REPLAY_FILE, own_logits, sha256_file
from resnet_proto.manifest_pb2 import Input, Manifest

from resnet_export.images import ImageSet, generated
from resnet_export.reference import Logits
from resnet_export.runtime import open_session, run_in_batches

# Of 128 images, a defect that changes 4 % of answers misses all with probability 0.5 %; of 64, with 7 %.
REPLAY_IMAGES = 128
BATCH = 64


def replay_images(spec: Input, images: ImageSet, *, copied: bool) -> ImageSet:
    """Certification images, evenly spread over the set; generated ones where those are not for copying.

    Generated images do as well for what a replay asks: whether the same file computes the same here.
    """
    if not copied or images.generated:
        return generated(spec, REPLAY_IMAGES)
    rows = np.unique(np.linspace(0, len(images) - 1, REPLAY_IMAGES).astype(int))
    return replace(images, images=images.images[rows], labels=None, names=tuple(images.names[row] for row in rows))


def write_replay(folder: Path, manifest: Manifest, sample: ImageSet, reference: Logits, provider: str) -> None:
    """Write the images with the logits FP32 [n, classes] of the reference and of every artifact, as the certificate computed them."""
    own: dict[str, Any] = {
        own_logits(artifact.precision): run_in_batches(open_session(folder / artifact.file, provider), sample.images, BATCH)
        for artifact in manifest.artifacts
    }
    path = folder / REPLAY_FILE
    np.savez_compressed(path, images=sample.images, logits=reference, **own)
    replay = manifest.replay
    replay.file, replay.sha256, replay.images, replay.generated_images = path.name, sha256_file(path), len(sample), sample.generated
