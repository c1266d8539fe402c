"""The manifest on disk: written by export, read and enforced by the server. Needs protobuf and numpy only."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from resnet_proto.certificate import POLICIES, POLICY_OF_PRECISION, CertificateError, certificate_id, violations
from resnet_proto.manifest_pb2 import Artifact, Input, Manifest
from resnet_proto.sample_check import Expected

FORMAT = 2
READ_FORMATS = (1, FORMAT)
MANIFEST_FILE = "manifest.json"
DIGEST_FILE = "manifest.sha256"
LABELS_FILE = "labels.txt"
REPLAY_FILE = "replay.npz"
PRECISIONS = ("fp32", "fp16", "int8")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "box", "hamming", "lanczos")
ACTIVATIONS = ("softmax", "sigmoid")


class ManifestError(Exception):
    """A published version that is incomplete, altered or not certified; the text says which part and how."""


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes; raise ManifestError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ManifestError(f"{path.name}: cannot be read: {error.strerror}") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json, and its digest in the form that `sha256sum -c` reads."""
    fields = json_format.MessageToDict(manifest, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    data = (json.dumps(fields, indent=2, ensure_ascii=False) + "\n").encode()
    (folder / MANIFEST_FILE).write_bytes(data)
    (folder / DIGEST_FILE).write_text(f"{hashlib.sha256(data).hexdigest()}  {MANIFEST_FILE}\n", encoding="ascii")


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest itself; raise ManifestError if a byte of it was altered or a field is unknown."""
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        expected = (folder / DIGEST_FILE).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{MANIFEST_FILE} or {DIGEST_FILE}: cannot be read: {error}") from None
    digest = hashlib.sha256(data).hexdigest()
    if expected != f"{digest}  {MANIFEST_FILE}\n":
        raise ManifestError(f"{MANIFEST_FILE}: sha256 is {digest}, {DIGEST_FILE} says {expected[:64]!r}; it was altered after publishing")
    try:
        manifest = json_format.Parse(data, Manifest())
    except (json_format.ParseError, UnicodeDecodeError) as error:
        raise ManifestError(f"{MANIFEST_FILE}: not a manifest: {error}") from None
    if manifest.format not in READ_FORMATS:
        raise ManifestError(f"{MANIFEST_FILE}: format is {manifest.format}; this release reads {' and '.join(map(str, READ_FORMATS))}")
    if manifest.HasField("input"):
        check_preprocessing(manifest)
    return manifest


def check_preprocessing(manifest: Manifest) -> None:
    """Raise ManifestError for an input that no image can be brought to, or an activation that this release does not have."""
    spec = manifest.input
    if spec.interpolation not in INTERPOLATIONS:
        raise ManifestError(f"input.interpolation: '{spec.interpolation[:40]}'; expected one of {', '.join(INTERPOLATIONS)}")
    if spec.resize_mode not in ("", "exact"):
        raise ManifestError(f"input.resize_mode: '{spec.resize_mode[:40]}'; expected nothing or exact")
    if spec.crop_rounding not in ("", "down"):
        raise ManifestError(f"input.crop_rounding: '{spec.crop_rounding[:40]}'; expected nothing or down")
    sizes = (spec.resize_height, spec.resize_width) if spec.resize_mode else (spec.resize_shorter_side,)
    if not all((*sizes, spec.height, spec.width)):
        raise ManifestError("input: a size is 0; expected height, width and the size to resize to, in pixels")
    if manifest.output.activation not in ("", *ACTIVATIONS):
        raise ManifestError(f"output.activation: '{manifest.output.activation[:40]}'; expected one of {', '.join(ACTIVATIONS)}")


def read_labels(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Read labels.txt; raise ManifestError if it was altered or does not hold one label a class."""
    path = folder / LABELS_FILE
    digest = sha256_file(path)
    if digest != manifest.output.labels_sha256:
        raise ManifestError(f"{LABELS_FILE}: sha256 is {digest}, the manifest says {manifest.output.labels_sha256}")
    labels = tuple(path.read_text(encoding="utf-8").splitlines())
    if len(labels) != manifest.output.classes:
        raise ManifestError(f"{LABELS_FILE}: holds {len(labels)} labels, the manifest says {manifest.output.classes} classes")
    return labels


def check_digest(folder: Path, file: str, expected: str) -> Path:
    """Return the path of `file` after comparing its digest; raise ManifestError if it differs or leaves the folder."""
    if Path(file).name != file:
        raise ManifestError(f"{file!r}: not a plain file name")
    path = folder / file
    digest = sha256_file(path)
    if digest != expected:
        raise ManifestError(f"{file}: sha256 is {digest}, the manifest says {expected}")
    return path


def check_artifact(
    folder: Path, manifest: Manifest, artifact: Artifact, *, allow_uncertified: bool = False, required: tuple[str, ...] = ()
) -> Path:
    """Return the model file's path if its digest and certificate hold; raise ManifestError with the reason if not.

    With `required`, names of policies, the certificate must also hold this release's policy for its precision.
    """
    path = check_digest(folder, artifact.file, artifact.sha256)
    if not allow_uncertified:
        check_certificate(manifest, artifact)
    if required:
        check_required(artifact, required)
    return path


@dataclass(frozen=True)
class ReplaySample:
    """`images` UINT8 [n, h, w, channels], the reference's `logits` FP32 [n, classes] and each precision's `own` where it was certified."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]
    own: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def expected(self, manifest: Manifest, artifact: Artifact) -> Expected:
        """What the artifact must compute of the sample."""
        multi_label = manifest.output.activation == "sigmoid"
        own = self.own.get(artifact.precision)
        return Expected(self.logits, own, artifact.certificate, multi_label, manifest.replay.generated_images)


def read_replay(folder: Path, manifest: Manifest) -> ReplaySample | None:
    """Read the replay sample; None if the version has none. Raise ManifestError for another digest or odd contents."""
    if not manifest.HasField("replay"):
        return None
    path = check_digest(folder, manifest.replay.file, manifest.replay.sha256)
    precisions = [artifact.precision for artifact in manifest.artifacts] if manifest.format > 1 else []
    try:
        with np.load(path) as file:
            sample = ReplaySample(file["images"], file["logits"], {precision: file[own_logits(precision)] for precision in precisions})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ManifestError(f"{path.name}: cannot be read: {error}") from None
    spec, count = manifest.input, len(sample.images)
    images, logits = (count, spec.height, spec.width, spec.channels or 3), (count, manifest.output.classes)
    if not count or sample.images.shape != images or any(each.shape != logits for each in (sample.logits, *sample.own.values())):
        raise ManifestError(f"{path.name}: holds shapes {sample.images.shape} and {sample.logits.shape}, which do not fit the manifest")
    return sample


def own_logits(precision: str) -> str:
    """The name in replay.npz of what a precision computed where it was certified."""
    return f"logits.{precision}"


def input_sha256(spec: Input) -> str:
    """Digest of the preprocessing: of the binary form of the fields that are present."""
    return hashlib.sha256(spec.SerializeToString(deterministic=True)).hexdigest()


def check_certificate(manifest: Manifest, artifact: Artifact) -> None:
    """Raise ManifestError unless the artifact has a certificate that is whole, is its own and passes its policy."""
    if not artifact.HasField("certificate"):
        raise ManifestError(f"{artifact.file}: has no certificate")
    certificate = artifact.certificate
    if certificate.id != certificate_id(certificate, manifest.format):
        raise ManifestError(f"{artifact.file}: the certificate's fields do not give its id {certificate.id!r}")
    if certificate.artifact_sha256 != artifact.sha256:
        raise ManifestError(f"{artifact.file}: the certificate was made for another file, {certificate.artifact_sha256}")
    if certificate.checkpoint_sha256 != manifest.source.checkpoint_sha256:
        raise ManifestError(f"{artifact.file}: the certificate was made from another checkpoint, {certificate.checkpoint_sha256}")
    if manifest.format > 1:
        _check_seal(manifest, artifact)
    try:
        broken = violations(certificate)
    except CertificateError as error:
        raise ManifestError(f"{artifact.file}: {error}") from None
    if broken:
        raise ManifestError(f"{artifact.file}: fails its own policy {certificate.policy.name}: {'; '.join(broken)}")


def _check_seal(manifest: Manifest, artifact: Artifact) -> None:
    certificate = artifact.certificate
    if certificate.labels_sha256 != manifest.output.labels_sha256:
        raise ManifestError(f"{artifact.file}: the certificate was made with other labels, {certificate.labels_sha256!r}")
    if certificate.input_sha256 != input_sha256(manifest.input):
        raise ManifestError(f"{artifact.file}: the certificate was made with another preprocessing, {certificate.input_sha256!r}")


def check_required(artifact: Artifact, required: tuple[str, ...]) -> None:
    """Raise ManifestError unless the certificate holds this release's policy for its precision, and that is among `required`."""
    name = POLICY_OF_PRECISION.get(artifact.precision, "")
    if name not in required:
        raise ManifestError(f"{artifact.file}: {artifact.precision} has none of the required policies {', '.join(required)}")
    try:
        broken = violations(artifact.certificate, POLICIES[name])
    except CertificateError as error:
        raise ManifestError(f"{artifact.file}: {error}") from None
    if broken:
        raise ManifestError(f"{artifact.file}: fails the required policy {name}: {'; '.join(broken)}")
