"""Certifying a published version again, against its checkpoint and on any images."""

from pathlib import Path

from resnet_models.checkpoint import Exportable
from resnet_proto.manifest import ManifestError, check_artifact, read_labels, read_manifest, sha256_file
from resnet_proto.manifest_pb2 import Artifact, Certificate, Manifest

from resnet_export.certify import Subject, certify
from resnet_export.claims import contradictions
from resnet_export.errors import ExportError
from resnet_export.images import choose_images
from resnet_export.reference import reference_logits
from resnet_export.verify import Finding


def recertify(folder: Path, checkpoint: Exportable, file: Path, images: Path | None, provider: str) -> list[Finding]:
    """Compare every precision with the network again; raise ExportError if the checkpoint is not the one that was published.

    On the images of the certificate, its claims are held against what is found; on others, its policy.
    """
    manifest = read_manifest(folder)
    sha256 = sha256_file(file)
    if sha256 != manifest.source.checkpoint_sha256:
        raise ExportError(f"checkpoint: {file} has sha256 {sha256}, the version was made from {manifest.source.checkpoint_sha256}")
    most = max((artifact.certificate.images for artifact in manifest.artifacts if artifact.certificate.images_available), default=None)
    chosen = choose_images(manifest.input, read_labels(folder, manifest), images, most)
    facts = Certificate(checkpoint_sha256=sha256)
    if manifest.source.HasField("accuracy"):
        facts.stated_accuracy = manifest.source.accuracy
    subject = Subject(chosen, reference_logits(checkpoint, chosen.images), facts, manifest.output.activation == "sigmoid")
    return [_recertify(folder, manifest, artifact, subject, provider) for artifact in manifest.artifacts]


def _recertify(folder: Path, manifest: Manifest, artifact: Artifact, subject: Subject, provider: str) -> Finding:
    claimed = artifact.certificate
    try:
        verdict = certify(check_artifact(folder, manifest, artifact), subject, claimed.policy, provider=provider)
    except (ManifestError, ExportError) as error:
        return Finding(artifact.precision, "not run", str(error))
    made, broken = verdict.certificate, verdict.broken
    same = made.images_sha256 == claimed.images_sha256
    if same:
        broken = broken + contradictions(claimed, made)
    which = "the images of the certificate" if same else "other images than the certificate's"
    text = f"{subject.images.source} ({which}) against the checkpoint: "
    text += f"agreement {made.top1_agreement:.2%}, max error {made.max_abs_error:.2g}"
    return Finding(artifact.precision, text, "; ".join(broken))
