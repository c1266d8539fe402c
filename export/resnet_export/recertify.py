"""Certifying a published version again, against its checkpoint and on any images."""

from pathlib import Path

from resnet_models.checkpoint import Exportable
from resnet_proto.manifest import check_artifact, read_labels, read_manifest, sha256_file

from resnet_export.certify import certify
from resnet_export.errors import ExportError
from resnet_export.images import choose_images
from resnet_export.reference import reference_logits
from resnet_export.verify import Finding


def recertify(folder: Path, checkpoint: Exportable, file: Path, images: Path | None, provider: str) -> list[Finding]:
    """Compare every precision with the network again; raise ExportError if the checkpoint is not the one that was published."""
    manifest = read_manifest(folder)
    sha256 = sha256_file(file)
    if sha256 != manifest.source.checkpoint_sha256:
        raise ExportError(f"checkpoint: {file} has sha256 {sha256}, the version was made from {manifest.source.checkpoint_sha256}")
    chosen = choose_images(manifest.input, read_labels(folder, manifest), images)
    reference = reference_logits(checkpoint, chosen.images)
    findings = []
    for artifact in manifest.artifacts:
        path = check_artifact(folder, manifest, artifact)
        policy = artifact.certificate.policy
        verdict = certify(path, reference, chosen, policy, checkpoint_sha256=sha256, git_revision="", provider=provider)
        made = verdict.certificate
        text = f"{chosen.source} against the checkpoint: agreement {made.top1_agreement:.2%}, max error {made.max_abs_error:.2g}"
        findings.append(Finding(artifact.precision, text, "; ".join(verdict.broken)))
    return findings
