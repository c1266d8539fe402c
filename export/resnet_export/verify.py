"""Checking what is on disk again: digests, certificates, and the outputs on this machine. Needs no torch without a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from resnet_proto.certificate import check_sample
from resnet_proto.manifest import ManifestError, ReplaySample, check_artifact, read_labels, read_manifest, read_replay
from resnet_proto.manifest_pb2 import Artifact, Manifest

from resnet_export.runtime import open_session, run_in_batches

BATCH_SIZES = (1, 2, 7, 64)


@dataclass(frozen=True)
class Finding:
    """One precision: what was compared and found, and what is broken (empty if nothing)."""

    precision: str
    text: str
    broken: str


def verify_stored(folder: Path, provider: str) -> list[Finding]:
    """Check the version in `folder` against its stored reference logits; raise ManifestError if it is not whole."""
    manifest = read_manifest(folder)
    read_labels(folder, manifest)
    sample = read_replay(folder, manifest)
    if sample is None:
        raise ManifestError("the version stores no reference logits; give --checkpoint")
    return [_verify_artifact(folder, manifest, artifact, sample, provider) for artifact in manifest.artifacts]


def _verify_artifact(folder: Path, manifest: Manifest, artifact: Artifact, sample: ReplaySample, provider: str) -> Finding:
    try:
        session = open_session(check_artifact(folder, manifest, artifact), provider)
    except ManifestError as error:
        return Finding(artifact.precision, "not run", str(error))
    checks = {
        batch: check_sample(run_in_batches(session, sample.images, batch), sample.logits, artifact.certificate.policy)
        for batch in BATCH_SIZES
    }
    agreement = min(check.agreement for check in checks.values())
    largest = max(check.max_abs_error for check in checks.values())
    text = f"{len(sample.images)} stored images at batch {', '.join(map(str, checks))}: agreement {agreement:.2%}, max error {largest:.2g}"
    broken = "; ".join(f"at batch {batch} {check.broken}" for batch, check in checks.items() if check.broken)
    return Finding(artifact.precision, text, broken)
