"""The manifest on disk: written by export, read and enforced by the server. Needs protobuf and numpy only."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from google.protobuf import json_format
from numpy.typing import NDArray

from resnet_proto.certificate import CertificateError, certificate_id, violations
from resnet_proto.manifest_pb2 import Artifact, Manifest

FORMAT = 1
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
    if manifest.format != FORMAT:
        raise ManifestError(f"{MANIFEST_FILE}: format is {manifest.format}; this release reads {FORMAT}")
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


def check_artifact(folder: Path, manifest: Manifest, artifact: Artifact, *, allow_uncertified: bool = False) -> Path:
    """Return the model file's path if its digest and certificate hold; raise ManifestError with the reason if not."""
    path = check_digest(folder, artifact.file, artifact.sha256)
    if not allow_uncertified:
        check_certificate(manifest, artifact)
    return path


@dataclass(frozen=True)
class ReplaySample:
    """`images` UINT8 [n, h, w, channels] and the reference's `logits` FP32 [n, classes]."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]


def read_replay(folder: Path, manifest: Manifest) -> ReplaySample | None:
    """Read the replay sample; None if the version has none. Raise ManifestError for another digest or odd contents."""
    if not manifest.HasField("replay"):
        return None
    path = check_digest(folder, manifest.replay.file, manifest.replay.sha256)
    try:
        with np.load(path) as file:
            sample = ReplaySample(file["images"], file["logits"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ManifestError(f"{path.name}: cannot be read: {error}") from None
    spec, count = manifest.input, len(sample.images)
    if sample.images.shape != (count, spec.height, spec.width, spec.channels or 3) or sample.logits.shape != (
        count,
        manifest.output.classes,
    ):
        raise ManifestError(f"{path.name}: holds shapes {sample.images.shape} and {sample.logits.shape}, which do not fit the manifest")
    return sample


def check_certificate(manifest: Manifest, artifact: Artifact) -> None:
    """Raise ManifestError unless the artifact has a certificate that is whole, is its own and passes its policy."""
    if not artifact.HasField("certificate"):
        raise ManifestError(f"{artifact.file}: has no certificate")
    certificate = artifact.certificate
    if certificate.id != certificate_id(certificate):
        raise ManifestError(f"{artifact.file}: the certificate's fields do not give its id {certificate.id!r}")
    if certificate.artifact_sha256 != artifact.sha256:
        raise ManifestError(f"{artifact.file}: the certificate was made for another file, {certificate.artifact_sha256}")
    if certificate.checkpoint_sha256 != manifest.source.checkpoint_sha256:
        raise ManifestError(f"{artifact.file}: the certificate was made from another checkpoint, {certificate.checkpoint_sha256}")
    try:
        broken = violations(certificate)
    except CertificateError as error:
        raise ManifestError(f"{artifact.file}: {error}") from None
    if broken:
        raise ManifestError(f"{artifact.file}: fails its own policy {certificate.policy.name}: {'; '.join(broken)}")
