"""The manifest's facts about a source, before anything is measured."""

from datetime import UTC, datetime
from pathlib import Path

from resnet_models.card import describe_recipe
from resnet_models.checkpoint import Exportable
from resnet_proto.manifest import FORMAT, sha256_file
from resnet_proto.manifest_pb2 import Manifest

from resnet_export.facts import fill_input, fill_network, fill_output


def describe(checkpoint: Exportable, file: Path, name: str) -> Manifest:
    """Network, input, output and source of a checkpoint that was read from `file`: a download's digest is that of the file downloaded."""
    info = checkpoint.info
    manifest = Manifest(format=FORMAT, name=name, created_at=datetime.now(UTC).isoformat(timespec="seconds"))
    fill_network(manifest.network, checkpoint)
    fill_input(manifest.input, info)
    fill_output(manifest.output, info)
    source = manifest.source
    source.checkpoint_sha256, source.checkpoint_file, source.git_revision = sha256_file(file), file.name, info.git_revision
    source.origin, source.accuracy_images = info.source, info.accuracy_images
    source.recipe = describe_recipe(info) if info.recipe else ""
    if info.seed is not None:
        source.seed = info.seed
    if info.accuracy is not None:
        source.accuracy = info.accuracy
    return manifest
