"""A model repository on disk: what is published, and what is refused for which reason."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_proto.certificate import POLICIES
from resnet_proto.manifest import ManifestError, check_artifact, read_labels, read_manifest
from resnet_proto.manifest_pb2 import Artifact, Input, Manifest
from resnet_proto.signature import SignatureError, check_signature, check_trusted

from resnet_server.errors import StartError
from resnet_server.planning.planner import ModelFile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trust:
    """What a version must show: a certificate, this release's policies by name, a signature by a public key or Sigstore identity."""

    allow_uncertified: bool = False
    required_policies: tuple[str, ...] = ()
    signature: str = ""

    def check(self) -> None:
        """Raise StartError for a demand that no version could meet."""
        if unknown := [name for name in self.required_policies if name not in POLICIES]:
            raise StartError(f"require-policy: {', '.join(unknown)}; expected some of {', '.join(POLICIES)}")
        if self.signature:
            try:
                check_trusted(self.signature)
            except SignatureError as error:
                raise StartError(f"require-signature: {error}") from None


@dataclass(frozen=True)
class Candidate:
    """One artifact whose digest and certificate hold."""

    artifact: Artifact
    path: Path

    def file(self, spec: Input) -> ModelFile:
        """What a plan needs to know of it."""
        return ModelFile(self.artifact.precision, self.path, self.artifact.sha256, spec.height, spec.width, spec.channels or 3)


@dataclass(frozen=True)
class Published:
    """One version: either `candidates` (at least one) with manifest and labels, or `refusal` with the reason.

    `rejected` maps a precision to the reason it is not among the candidates.
    """

    name: str
    version: str
    folder: Path
    manifest: Manifest
    labels: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    refusal: str = ""

    def files(self, candidates: Sequence[Candidate]) -> list[ModelFile]:
        """What a plan needs to know of these candidates."""
        return [candidate.file(self.manifest.input) for candidate in candidates]


def scan(root: Path, *, models: tuple[str, ...], all_versions: bool, trust: Trust) -> list[Published]:
    """Read the repository; raise StartError if it is not there, empty, lacks one of `models`, or `trust` demands what cannot be checked.

    A defect of one version refuses that version only.
    """
    trust.check()
    if not root.is_dir():
        raise StartError(f"repository: {root} is not a folder; `resnet-export publish` makes one")
    folders = {folder.name: folder for folder in sorted(root.iterdir()) if folder.is_dir() and not folder.name.startswith(".")}
    if missing := [name for name in models if name not in folders]:
        raise StartError(f"models: {', '.join(missing)} not in {root}; it holds {', '.join(folders) or 'nothing'}")
    chosen = [folders[name] for name in models] if models else list(folders.values())
    published = []
    for folder in chosen:
        versions = sorted((v for v in folder.iterdir() if v.is_dir() and is_version(v.name)), key=lambda v: int(v.name))
        published += [read_version(version, trust) for version in (versions if all_versions else versions[-1:])]
    if not published:
        raise StartError(f"repository: {root} holds no published version; `resnet-export publish` makes one")
    return published


def is_version(name: str) -> bool:
    """A positive decimal number without leading zeros."""
    return name.isascii() and name.isdecimal() and not name.startswith("0")


def read_version(folder: Path, trust: Trust) -> Published:
    """Check one version as a whole, then each of its precisions."""
    name, version = folder.parent.name, folder.name
    try:
        if trust.signature:
            check_signature(folder, trust.signature)
        manifest = read_manifest(folder)
        if (manifest.name, manifest.version) != (name, version):
            raise ManifestError(f"manifest.json: is of {manifest.name} version {manifest.version}, not of {name} version {version}")
        labels = read_labels(folder, manifest)
    except ManifestError as error:
        return Published(name, version, folder, Manifest(), refusal=str(error))
    candidates, rejected = [], []
    for artifact in manifest.artifacts:
        try:
            path = check_artifact(folder, manifest, artifact, allow_uncertified=trust.allow_uncertified, required=trust.required_policies)
            candidates.append(Candidate(artifact, path))
        except ManifestError as error:
            rejected.append((artifact.precision, str(error)))
    refusal = "" if candidates else "; ".join(reason for _, reason in rejected) or "manifest.json: names no artifact"
    return Published(name, version, folder, manifest, labels, tuple(candidates), tuple(rejected), refusal)
