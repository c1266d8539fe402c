"""A published network as a benchmark sees it: its file, and images to send."""

from dataclasses import dataclass
from pathlib import Path

from resnet_proto.manifest import ManifestError, check_digest, read_manifest
from resnet_proto.manifest_pb2 import Manifest

from resnet_bench.errors import BenchError
from resnet_bench.material import Material, material_of


@dataclass(frozen=True)
class Published:
    """The latest version of a network in one precision."""

    folder: Path
    manifest: Manifest
    precision: str
    path: Path
    material: Material

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def label(self) -> str:
        """Name and precision, for people."""
        return f"{self.name} {self.precision}"


def names_in(repository: Path) -> tuple[str, ...]:
    """All models in the repository, cheapest first; raise BenchError if there are none."""
    if not repository.is_dir():
        raise BenchError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    folders = [entry for entry in sorted(repository.iterdir()) if entry.is_dir() and _versions(entry)]
    if not folders:
        raise BenchError(f"repository: {repository} holds no published model; `resnet-export publish` makes one")
    return tuple(sorted((folder.name for folder in folders), key=lambda name: _manifest(repository, name)[1].network.multiply_adds))


def find(repository: Path, name: str, precision: str) -> Published:
    """The file of `name` in `precision`; raise BenchError saying what there is instead."""
    folder, manifest = _manifest(repository, name)
    artifact = next((artifact for artifact in manifest.artifacts if artifact.precision == precision), None)
    if artifact is None:
        there = ", ".join(artifact.precision for artifact in manifest.artifacts)
        raise BenchError(f"precision: {name} is not published in {precision}; it has {there or 'none'}")
    try:
        path = check_digest(folder, artifact.file, artifact.sha256)
        return Published(folder, manifest, precision, path, material_of(manifest, folder))
    except ManifestError as error:
        raise BenchError(f"{name}: {error}") from None


def _manifest(repository: Path, name: str) -> tuple[Path, Manifest]:
    versions = _versions(repository / name)
    if not versions:
        raise BenchError(f"models: '{name}' is not published in {repository}")
    folder = versions[-1]
    try:
        return folder, read_manifest(folder)
    except ManifestError as error:
        raise BenchError(f"{name}: {error}") from None


def _versions(model: Path) -> list[Path]:
    if not model.is_dir():
        return []
    folders = [entry for entry in model.iterdir() if entry.name.isascii() and entry.name.isdecimal() and entry.is_dir()]
    return sorted(folders, key=lambda entry: int(entry.name))
