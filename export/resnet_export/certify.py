"""Making a certificate: what the artifact computes, against what the network computes, on real images."""

import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from resnet_proto.certificate import seal, violations
from resnet_proto.manifest import sha256_file
from resnet_proto.manifest_pb2 import Certificate, Policy

from resnet_export.errors import ExportError
from resnet_export.images import ImageSet
from resnet_export.reference import Logits
from resnet_export.runtime import PROVIDERS, open_session, run_in_batches

BATCH_SIZES = (1, 2, 7, 64)
PACKAGES = ("numpy", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "torch", "resnet-serving")


@dataclass(frozen=True)
class Worst:
    """The image on which the artifact is furthest from the reference, with both logit vectors FP32 [classes]."""

    index: int
    name: str
    batch: int
    reference: Logits
    artifact: Logits

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


def certify(
    path: Path,
    reference: Logits,
    images: ImageSet,
    policy: Policy,
    *,
    checkpoint_sha256: str,
    git_revision: str,
    provider: str = "cpu",
    calibration_sha256: str = "",
) -> Verdict:
    """Compare the file at `path` with the reference FP32 [n, classes] at every batch size.

    Raises ExportError if the graph cannot be loaded or does not take a batch size.
    """
    if not len(images):
        raise ExportError("images: none to compare on")
    session = open_session(path, provider)
    outputs = {batch: run_in_batches(session, images.images, batch) for batch in BATCH_SIZES}
    certificate = Certificate(
        artifact_sha256=sha256_file(path),
        checkpoint_sha256=checkpoint_sha256,
        git_revision=git_revision,
        policy=policy,
        images=len(images),
        images_source=images.source,
        images_sha256=images.sha256,
        batch_sizes=BATCH_SIZES,
        calibration_sha256=calibration_sha256,
        provider=PROVIDERS[provider],
        versions=tool_versions(),
        machine=machine_name(provider),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    measure(certificate, reference, outputs, images.labels)
    worst = find_worst(reference, outputs, images)
    return Verdict(seal(certificate), violations(certificate), worst, most_different(reference, outputs[BATCH_SIZES[-1]], images))


def measure(certificate: Certificate, reference: Logits, outputs: dict[int, Logits], labels: NDArray[np.int64] | None) -> None:
    """Fill in errors, agreement and accuracies; the worst batch size counts."""
    errors = np.stack([np.abs(output.astype(np.float64) - reference) for output in outputs.values()])
    certificate.max_abs_error = float(errors.max())
    certificate.mean_abs_error = float(errors.mean())
    certificate.p99_abs_error = float(np.quantile(errors, 0.99)) if np.isfinite(errors).all() else float("nan")
    top1 = reference.argmax(1)
    certificate.top1_agreement = min(float((output.argmax(1) == top1).mean()) for output in outputs.values())
    certificate.top5_agreement = min(top5_agreement(reference, output) for output in outputs.values())
    if labels is None:
        return
    reference_right = top1 == labels
    artifact_right = min((output.argmax(1) == labels for output in outputs.values()), key=lambda right: right.sum())
    certificate.reference_accuracy = 100 * float(reference_right.mean())
    certificate.artifact_accuracy = 100 * float(artifact_right.mean())
    certificate.accuracy_change_low, certificate.accuracy_change_high = change_interval(reference_right, artifact_right)


def top5_agreement(reference: Logits, output: Logits) -> float:
    """Share of images whose five best classes are the same set (all classes where there are fewer)."""
    best = [np.sort(np.argsort(-logits, axis=1, kind="stable")[:, :5], axis=1) for logits in (reference, output)]
    return float((best[0] == best[1]).all(axis=1).mean())


def change_interval(reference_right: NDArray[np.bool_], artifact_right: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % Wald interval of the accuracy change in points, from the discordant pairs (Agresti, Categorical Data Analysis, 11.1)."""
    count = len(reference_right)
    gained = int((artifact_right & ~reference_right).sum())
    lost = int((reference_right & ~artifact_right).sum())
    change = (gained - lost) / count
    spread = 1.96 * float(np.sqrt(max(0.0, (gained + lost) - (gained - lost) ** 2 / count))) / count
    return 100 * (change - spread), 100 * (change + spread)


def find_worst(reference: Logits, outputs: dict[int, Logits], images: ImageSet) -> Worst:
    """The image with the largest logit error over all batch sizes; one that is not finite comes first."""
    errors = np.stack([np.nan_to_num(np.abs(output - reference).max(axis=1), nan=np.inf) for output in outputs.values()])
    row, index = np.unravel_index(int(errors.argmax()), errors.shape)
    batch = list(outputs)[int(row)]
    return Worst(int(index), images.names[int(index)], batch, reference[int(index)], outputs[batch][int(index)])


def most_different(reference: Logits, output: Logits, images: ImageSet, count: int = 5) -> list[str]:
    """Names of the images with another top-1, the furthest first; then of those whose logits are furthest off."""
    errors = np.nan_to_num(np.abs(output - reference).max(axis=1), nan=np.inf)
    order = np.lexsort((-errors, output.argmax(1) == reference.argmax(1)))
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
