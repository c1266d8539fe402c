"""Making a certificate: what the artifact computes, against what the network computes, on real images."""

import hashlib
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from resnet_proto.answers import can_flip, same_answers, spread
from resnet_proto.certificate import error_bound, seal, violations
from resnet_proto.intervals import paired_interval
from resnet_proto.manifest import sha256_file
from resnet_proto.manifest_pb2 import Certificate, Policy

from resnet_export.errors import ExportError
from resnet_export.images import ImageSet
from resnet_export.progress import SILENT, Steps
from resnet_export.reference import Logits
from resnet_export.runtime import BATCH_SIZES, PROVIDERS, open_session, run_full_batches

CONFIDENCE = 0.95  # of the interval that is shown; what a policy is judged by, it says itself
PACKAGES = ("numpy", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "torch", "resnet-serving")


@dataclass(frozen=True)
class Worst:
    """The image on which the artifact is furthest from the reference, with both logit vectors FP32 [classes]."""

    index: int
    name: str
    batch: int
    reference: Logits
    artifact: Logits
    distance: float

    def __str__(self) -> str:
        return (
            f"worst image: {self.name} at batch {self.batch}\n  reference {_figures(self.reference)}\n  artifact  {_figures(self.artifact)}"
        )


def _figures(row: Logits) -> str:
    return "[" + ", ".join(f"{value:.5g}" for value in row) + "]"


@dataclass(frozen=True)
class Verdict:
    """A sealed certificate, what of its policy is broken, and the worst image."""

    certificate: Certificate
    broken: list[str]
    worst: Worst
    most_different: list[str]


@dataclass(frozen=True)
class Subject:
    """What all precisions of one network are compared with: images, the reference's logits FP32 [n, classes], and the facts under seal."""

    images: ImageSet
    reference: Logits
    facts: Certificate
    multi_label: bool = False

    def __post_init__(self) -> None:
        if not len(self.images):
            raise ExportError("images: none to compare on")


def certify(
    path: Path, subject: Subject, policy: Policy, *, provider: str = "cpu", calibration: ImageSet | None = None, steps: Steps = SILENT
) -> Verdict:
    """Compare the file at `path` with the reference at every batch size, in full batches only.

    `subject.facts` holds what is known before: checkpoint, revision, labels, input. Raises ExportError if the graph cannot be
    loaded or does not take a batch size.
    """
    session = open_session(path, provider)
    certificate = Certificate()
    certificate.CopyFrom(subject.facts)
    certificate.policy.CopyFrom(policy)
    certificate.artifact_sha256 = sha256_file(path)
    certificate.provider, certificate.machine = PROVIDERS[provider], machine_name(provider)
    certificate.versions.update(tool_versions())
    certificate.created_at = datetime.now(UTC).isoformat(timespec="seconds")
    if calibration is not None:
        certificate.calibration_sha256, certificate.calibration_images = calibration.sha256, len(calibration)
    describe_images(certificate, subject)
    measured = []
    for batch in BATCH_SIZES:
        steps.step(f"{path.stem.rpartition('.')[2]}: certifying in batches of {batch}")
        output = run_full_batches(session, subject.images.images, batch, steps.advance)
        measured.append(measure(batch, output, subject, error_bound(policy, certificate.logit_scale)))
    enter(certificate, measured)
    worst = max((one.worst for one in measured), key=lambda worst: worst.distance)
    return Verdict(seal(certificate), violations(certificate), worst, measured[-1].most_different)


def describe_images(certificate: Certificate, subject: Subject) -> None:
    """Which images, their labels, and the scale of the reference's logits on them."""
    images = subject.images
    certificate.images, certificate.images_source, certificate.images_sha256 = len(images), images.source, images.sha256
    certificate.generated_images, certificate.images_available = images.generated, images.available
    if images.labels is not None:
        certificate.truth_sha256 = hashlib.sha256(images.labels.astype("<i8").tobytes()).hexdigest()
    certificate.logit_scale = spread(subject.reference)


@dataclass(frozen=True)
class Measured:
    """What one batch size showed; `right` BOOL [n] of reference and artifact where the images have labels."""

    batch: int
    max_error: float
    mean_error: float
    p99_error: float
    flips: int
    decided_flips: int
    top5: float
    right: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None
    worst: Worst
    most_different: list[str]


def measure(batch: int, output: Logits, subject: Subject, bound: float | None) -> Measured:
    """Compare FP32 [m, classes], row i of image i modulo n; errors are of every row, answers of each image once."""
    reference, images, count = subject.reference, subject.images, len(subject.images)
    errors = np.abs(output - reference.take(np.arange(len(output)), axis=0, mode="wrap"))
    once = output[:count]
    flipped = ~same_answers(once, reference, multi_label=subject.multi_label)
    decided = flipped & ~can_flip(reference, bound, multi_label=subject.multi_label)
    right = None
    if images.labels is not None:
        right = reference.argmax(1) == images.labels, once.argmax(1) == images.labels
    furthest = np.nan_to_num(errors.max(axis=1), nan=np.inf)
    row = int(furthest.argmax())
    worst = Worst(row % count, images.names[row % count], batch, reference[row % count], output[row], float(furthest[row]))
    p99 = float(np.quantile(errors, 0.99)) if np.isfinite(errors).all() else float("nan")
    return Measured(
        batch,
        float(errors.max()),
        float(errors.mean(dtype=np.float64)),
        p99,
        int(flipped.sum()),
        int(decided.sum()),
        top5_agreement(reference, once),
        right,
        worst,
        most_different(flipped, furthest[:count], images),
    )


def enter(certificate: Certificate, measured: list[Measured]) -> None:
    """Fill in batch sizes, errors, agreement and accuracies; the worst batch size counts."""
    certificate.batch_sizes.extend(one.batch for one in measured)
    certificate.max_abs_error = worst_of(one.max_error for one in measured)
    certificate.mean_abs_error = worst_of(one.mean_error for one in measured)
    certificate.p99_abs_error = worst_of(one.p99_error for one in measured)
    certificate.flips = max(one.flips for one in measured)
    certificate.decided_flips = max(one.decided_flips for one in measured)
    certificate.top1_agreement = 1 - certificate.flips / certificate.images
    certificate.top5_agreement = min(one.top5 for one in measured)
    rights = [one.right for one in measured if one.right is not None]
    if not rights:
        return
    reference, artifact = min(rights, key=lambda right: int(right[1].sum()))
    certificate.gained, certificate.lost = int((artifact & ~reference).sum()), int((reference & ~artifact).sum())
    certificate.reference_accuracy = 100 * float(reference.mean())
    certificate.artifact_accuracy = 100 * float(artifact.mean())
    low, high = paired_interval(certificate.gained, certificate.lost, certificate.images, CONFIDENCE)
    certificate.accuracy_change_low, certificate.accuracy_change_high = 100 * low, 100 * high


def worst_of(figures: Iterable[float]) -> float:
    """The largest; NaN if any is."""
    return float(np.max(list(figures)))


def top5_agreement(reference: Logits, output: Logits) -> float:
    """Share of images whose five best classes are the same set (all classes where there are fewer)."""
    best = [np.sort(np.argsort(-logits, axis=1, kind="stable")[:, :5], axis=1) for logits in (reference, output)]
    return float((best[0] == best[1]).all(axis=1).mean())


def most_different(flipped: NDArray[np.bool_], errors: NDArray[np.float32], images: ImageSet, count: int = 5) -> list[str]:
    """Names of the images with another answer, the furthest first; then of those whose logits are furthest off."""
    order = np.lexsort((-errors, ~flipped))
    return [f"{images.names[i]} by {errors[i]:.3g}" for i in order[:count]]


def tool_versions() -> dict[str, str]:
    """Version of every tool that had a hand in the result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except ImportError:
            continue
    return found


def machine_name(provider: str = "cpu") -> str:
    """What computed, as the system names it: the GPU for `cuda`, else the processor."""
    if provider == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
