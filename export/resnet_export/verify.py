"""Checking what is on disk again: digests, certificates, and the outputs on this machine. Needs no torch without a checkpoint."""

from dataclasses import dataclass
from pathlib import Path

from resnet_proto.manifest import ManifestError, ReplaySample, check_artifact, read_labels, read_manifest, read_replay
from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_proto.sample_check import check_sample

from resnet_export.claims import contradictions_of_sample
from resnet_export.errors import ExportError
from resnet_export.runtime import BATCH_SIZES, open_session, run_full_batches


@dataclass(frozen=True)
class Finding:
    """One precision: what was compared and found, and what is broken (empty if nothing)."""

    precision: str
    text: str
    broken: str


def verify_stored(folder: Path, provider: str) -> list[Finding]:
    """Check the version in `folder` against its stored logits; raise ManifestError if it is not whole."""
    manifest = read_manifest(folder)
    read_labels(folder, manifest)
    sample = read_replay(folder, manifest)
    if sample is None:
        raise ManifestError("the version stores no reference logits; give --checkpoint")
    return [_verify_artifact(folder, manifest, artifact, sample, provider) for artifact in manifest.artifacts]


def _verify_artifact(folder: Path, manifest: Manifest, artifact: Artifact, sample: ReplaySample, provider: str) -> Finding:
    try:
        session = open_session(check_artifact(folder, manifest, artifact), provider)
        expected, count = sample.expected(manifest, artifact), len(sample.images)
        outputs = {batch: run_full_batches(session, sample.images, batch)[:count] for batch in BATCH_SIZES}
    except (ManifestError, ExportError) as error:
        return Finding(artifact.precision, "not run", str(error))
    checks = {batch: check_sample(output, expected) for batch, output in outputs.items()}
    largest = max(check.max_abs_error for check in checks.values())
    kind = "generated images" if manifest.replay.generated_images else "stored images"
    text = f"{count} {kind} at batch {', '.join(map(str, checks))}: "
    if not manifest.replay.generated_images:
        text += f"agreement {min(check.agreement for check in checks.values()):.2%}, "
    broken = [f"at batch {batch} {check.broken}" for batch, check in checks.items() if check.broken]
    broken += dict.fromkeys(phrase for output in outputs.values() for phrase in contradictions_of_sample(output, expected))
    return Finding(artifact.precision, f"{text}max error {largest:.2g}", "; ".join(broken))
