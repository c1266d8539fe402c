"""More versions of a published model, as `publish` would put them there."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from resnet_proto.manifest import read_manifest, write_manifest
from resnet_proto.manifest_pb2 import Manifest


def add_version(model: Path, version: str, change: Callable[[Manifest], None] = lambda _: None, of: str = "1") -> Path:
    """A copy of version `of` under another number, its manifest changed; it appears whole."""
    new = model / f".staged-{version}"
    shutil.copytree(model / of, new)
    manifest = read_manifest(new)
    manifest.version = version
    change(manifest)
    write_manifest(new, manifest)
    os.rename(new, model / version)  # noqa: PTH104  # as publishing does
    return model / version


def alter(folder: Path, change: Callable[[Manifest], None]) -> None:
    """Change a version's manifest where it stands."""
    manifest = read_manifest(folder)
    change(manifest)
    write_manifest(folder, manifest)


def without_certificate(manifest: Manifest) -> None:
    """What no server takes into service."""
    for artifact in manifest.artifacts:
        artifact.ClearField("certificate")
