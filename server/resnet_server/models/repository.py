"""A model repository on disk: what is published, and what is refused for which reason."""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_proto.certificate import POLICIES
from resnet_proto.manifest import DIGEST_FILE, MANIFEST_FILE, ManifestError, check_artifact, read_labels, read_manifest
from resnet_proto.manifest_pb2 import Artifact, Input, Manifest
from resnet_proto.signature import SignatureError, check_signature, check_trusted

from resnet_server.errors import StartError
from resnet_server.models.model_settings import NONE, ModelSettings, ModelSettingsError, Wanted
from resnet_server.models.versions import VersionPolicy, is_version, parse_versions
from resnet_server.planning.planner import ModelFile

log = logging.getLogger(__name__)

GONE = ".gone"
"""In a folder of a mirror: the other side has it no longer. Its files stay for engines that may be started again."""


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

    `rejected` maps a precision to the reason it is not among the candidates. `own` are the model's own settings; `digest` changes with
    anything that is served: the manifest, which has the digests of all files, or those settings.
    """

    name: str
    version: str
    folder: Path
    manifest: Manifest
    labels: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    rejected: tuple[tuple[str, str], ...] = ()
    refusal: str = ""
    own: ModelSettings = NONE
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Name and version."""
        return self.name, self.version

    def files(self, candidates: Sequence[Candidate]) -> list[ModelFile]:
        """What a plan needs to know of these candidates."""
        return [candidate.file(self.manifest.input) for candidate in candidates]


class Repository:
    """A folder on disk, `root`, as it is; `url` is how people name it."""

    def __init__(self, root: Path, url: str = "") -> None:
        self.root = root
        self.url = url or str(root)

    def refresh(self, name: str = "") -> None:
        """Take in which versions there are, of one model or of all: a folder shows that by itself. Raises StartError."""

    def fetch(self, version: Path) -> str:
        """Have the files of a version that is to be read; why that cannot be, empty where it can."""
        return ""

    def prune(self, keep: set[Path]) -> None:
        """Forget copies of all versions but these."""

    def give_up(self) -> None:
        """Fetch nothing more: the server stops."""


def scan(repository: Repository, *, models: tuple[str, ...], wanted: Wanted, trust: Trust, may_be_empty: bool = False) -> list[Published]:
    """Read the repository; raise StartError if it is not there, lacks one of `models`, or `trust` demands what cannot be checked.

    So does an empty one, unless it `may_be_empty`. A defect of one version refuses that version only.
    """
    trust.check()
    root, url = repository.root, repository.url
    if not root.is_dir():
        raise StartError(f"repository: {root} is not a folder; `resnet-export publish` makes one")
    folders = model_folders(root)
    if missing := [name for name in models if name not in folders]:
        raise StartError(f"models: {', '.join(missing)} not in {url}; it holds {', '.join(folders) or 'nothing'}")
    if missing := [name for name in wanted.models if name not in folders]:
        raise StartError(f"weights, shadow: {', '.join(missing)} not in {url}; it holds {', '.join(folders) or 'nothing'}")
    chosen = [folders[name] for name in models] if models else list(folders.values())
    published = [version for folder in chosen for version in read_model(repository, folder, wanted, trust)]
    if not published and not may_be_empty:
        raise StartError(f"repository: {url} holds no published version; `resnet-export publish` makes one")
    return published


def model_folders(root: Path) -> dict[str, Path]:
    """Of every model by its name; raises OSError where the repository cannot be read."""
    return {folder.name: folder for folder in sorted(root.iterdir()) if is_there(folder) and not folder.name.startswith(".")}


def is_there(folder: Path) -> bool:
    """Whether it is a folder, and in a mirror one that the other side still has."""
    return folder.is_dir() and not (folder / GONE).exists()


def read_model(repository: Repository, folder: Path, wanted: Wanted, trust: Trust, asked: VersionPolicy | None = None) -> list[Published]:
    """The versions of a model that serve: those `asked` for, else those of its `serving.toml`, else of the policy for all models.

    All are refused where `serving.toml` is wrong.
    """
    chosen, own, refusal = choose_versions(folder, wanted, asked)
    if refusal:
        return [Published(folder.name, path.name, path, Manifest(), refusal=refusal, digest=digest_of(path, own)) for path in chosen]
    failed = {path: repository.fetch(path) for path in chosen}  # first: what is read is what was fetched
    return [replace(read_version(path, trust, failed[path]), own=own, digest=digest_of(path, own, failed[path])) for path in chosen]


def digests(repository: Repository, folder: Path, wanted: Wanted) -> dict[str, str]:
    """Of the versions that `read_model` would read, without reading more than their manifests."""
    chosen, own, _ = choose_versions(folder, wanted)
    return {path.name: digest_of(path, own, repository.fetch(path)) for path in chosen}


def choose_versions(folder: Path, wanted: Wanted, asked: VersionPolicy | None = None) -> tuple[list[Path], ModelSettings, str]:
    """The folders of the versions to serve, the model's own settings, and what is wrong with these."""
    there = [path.name for path in folder.iterdir() if is_version(path.name) and is_there(path)]
    own, refusal = NONE, ""
    try:
        own = wanted.own(folder)
    except ModelSettingsError as error:
        own, refusal = ModelSettings(digest=str(error)), str(error)
    return [folder / version for version in _chosen(there, own, wanted.policy, asked)], own, refusal


def _chosen(there: Sequence[str], own: ModelSettings, policy: VersionPolicy, asked: VersionPolicy | None) -> list[str]:
    """Versions in shadow are beside those that the policy chooses among the others, unless they are what is asked for by number."""
    if asked is not None and asked.named:
        return asked.choose(there)
    beside = [version for version, _ in own.shadow.shares] if own.shadow else []
    others = [version for version in there if version not in beside]
    its = asked or own_versions(own)
    if its is not None:
        return sorted({*its.choose(others), *beside}, key=int)
    known = set(policy.choose(others)) & set(others)  # a policy for all models: numbers mean those that a model has
    return sorted({*known, *beside}, key=int)


def own_versions(own: ModelSettings) -> VersionPolicy | None:
    """A model's own policy: as it says, or those versions that have a share; None where it has none."""
    if own.versions:
        return parse_versions(own.versions)
    return VersionPolicy(named=tuple(version for version, _ in own.weights.shares)) if own.weights else None


def digest_of(version: Path, own: ModelSettings, failed: str = "") -> str:
    """See `Published`; `failed`: why the files are not what they should be."""
    try:
        manifest = b"".join((version / name).read_bytes() for name in (MANIFEST_FILE, DIGEST_FILE))
    except OSError as error:
        manifest = str(error.strerror).encode()
    return hashlib.sha256(manifest + own.digest.encode() + failed.encode()).hexdigest()


def read_version(folder: Path, trust: Trust, failed: str = "") -> Published:
    """Check one version as a whole, then each of its precisions; refused where it has `failed` to be fetched."""
    name, version = folder.parent.name, folder.name
    if failed:
        return Published(name, version, folder, Manifest(), refusal=failed)
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
