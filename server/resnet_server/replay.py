"""Certification images replayed on the very engine that will serve: a certificate made elsewhere holds here, or is refused."""

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from resnet_proto.manifest import check_digest
from resnet_proto.manifest_pb2 import Manifest, Policy

from resnet_server.batching import Images, Logits
from resnet_server.engines.in_process import InProcessEngine
from resnet_server.errors import EngineError

RARE = 1e-3


@dataclass(frozen=True)
class ReplaySample:
    """`images` UINT8 [n, h, w, 3] and the reference's `logits` FP32 [n, classes]."""

    images: Images
    logits: Logits


@dataclass(frozen=True)
class ReplayResult:
    """What was measured on this machine: top-1 agreement 0..1 and the largest absolute logit error."""

    images: int
    agreement: float
    max_abs_error: float


def load_sample(folder: Path, manifest: Manifest) -> ReplaySample | None:
    """Read the sample; None if the version has none. Raises ManifestError for another digest, EngineError for odd contents."""
    if not manifest.HasField("replay"):
        return None
    path = check_digest(folder, manifest.replay.file, manifest.replay.sha256)
    try:
        with np.load(path) as file:
            sample = ReplaySample(file["images"], file["logits"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise EngineError(f"{path.name}: cannot be read: {error}") from None
    spec = manifest.input
    count = len(sample.images)
    if sample.images.shape != (count, spec.height, spec.width, 3) or sample.logits.shape != (count, manifest.output.classes):
        raise EngineError(f"{path.name}: holds shapes {sample.images.shape} and {sample.logits.shape}, which do not fit the manifest")
    return sample


def replay(engine: InProcessEngine, sample: ReplaySample, policy: Policy) -> ReplayResult:
    """Run the sample in every bucket size of the engine; raise EngineError naming the image that breaks the policy.

    Of n images, as many may disagree as a model that just meets the policy would show in all but one of a
    thousand samples; none where the policy asks for 100 %.
    """
    worst = ReplayResult(len(sample.images), 1.0, 0.0)
    allowed = allowed_disagreements(len(sample.images), policy.min_top1_agreement)
    for bucket in engine.buckets:
        logits = np.concatenate([engine.compute_rows(sample.images[i : i + bucket]) for i in range(0, len(sample.images), bucket)])
        if not np.isfinite(logits).all():
            raise EngineError(f"replay: at batch {bucket} an output is not finite")
        errors = np.abs(logits - sample.logits).max(axis=1)
        wrong = np.flatnonzero(logits.argmax(1) != sample.logits.argmax(1))
        if policy.HasField("max_abs_error") and errors.max() > policy.max_abs_error:
            raise EngineError(
                f"replay: at batch {bucket} image {errors.argmax()} differs by {errors.max():.3g} in a logit; "
                f"policy {policy.name} allows {policy.max_abs_error:g}"
            )
        if len(wrong) > allowed:
            raise EngineError(
                f"replay: at batch {bucket} {len(wrong)} of {len(errors)} images have another top-1 (first: image {wrong[0]}, "
                f"logits off by {errors[wrong[0]]:.3g}); policy {policy.name} allows {allowed}"
            )
        worst = ReplayResult(
            worst.images, min(worst.agreement, 1 - len(wrong) / len(errors)), max(worst.max_abs_error, float(errors.max()))
        )
    return worst


def allowed_disagreements(images: int, min_agreement: float) -> int:
    """The smallest k with P(more than k disagreements) < 0.001 for a binomial of rate 1 - `min_agreement`."""
    rate = 1 - min_agreement
    cumulative = 0.0
    for count in range(images + 1):
        cumulative += math.comb(images, count) * rate**count * min_agreement ** (images - count)
        if 1 - cumulative < RARE:
            return count
    return images
