"""Manifests and repositories, for people and for programs."""

from dataclasses import dataclass
from pathlib import Path

from google.protobuf import json_format
from resnet_proto.certificate import agreement_interval
from resnet_proto.manifest import ManifestError, check_artifact, read_labels, read_manifest
from resnet_proto.manifest_pb2 import Artifact, Manifest
from rich.table import Table

from resnet_export.errors import RepositoryError
from resnet_export.repository import versions


def summary(manifest: Manifest) -> Table:
    """What is published, as a table of facts."""
    network, source = manifest.network, manifest.source
    table = Table(title=f"{manifest.name} version {manifest.version}", show_header=False, title_justify="left")
    table.add_row("network", f"{network.variant}, {network.parameters:,} parameters, {network.multiply_adds / 1e6:,.1f} M multiply-adds")
    table.add_row(
        "input", f"{manifest.input.name} UINT8 [batch, {manifest.input.height}, {manifest.input.width}, {manifest.input.channels or 3}]"
    )
    table.add_row("output", f"{manifest.output.name} FP32 [batch, {manifest.output.classes}], {manifest.output.activation or 'softmax'}")
    trained = f"{source.accuracy:.2f} % on {source.accuracy_images}" if source.HasField("accuracy") else "accuracy not stated"
    table.add_row("checkpoint", f"{source.checkpoint_file}, {trained if network.trained else 'UNTRAINED'}")
    return table


def certificates(manifest: Manifest) -> Table:
    """A column for each precision."""
    table = Table(title="certificates", title_justify="left")
    table.add_column("")
    for artifact in manifest.artifacts:
        table.add_column(artifact.precision)
    columns = [rows(artifact) for artifact in manifest.artifacts]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def rows(artifact: Artifact) -> dict[str, str]:
    """What one certificate says."""
    certificate = artifact.certificate
    policy = certificate.policy
    bounds = [f"agreement >= {policy.min_top1_agreement:.1%}"]
    if policy.HasField("max_relative_error"):
        bounds.append(f"error <= {policy.max_relative_error:g} of {certificate.logit_scale:.3g}")
    if policy.HasField("max_abs_error"):
        bounds.append(f"error <= {policy.max_abs_error:g}")
    if policy.HasField("max_accuracy_loss"):
        bounds.append(f"loss <= {policy.max_accuracy_loss:g} points")
    accuracy = "no labels"
    if certificate.HasField("reference_accuracy"):
        accuracy = (
            f"{certificate.reference_accuracy:.2f} % -> {certificate.artifact_accuracy:.2f} % "
            f"(95 %: {certificate.accuracy_change_low:+.2f} to {certificate.accuracy_change_high:+.2f})"
        )
    low, high = agreement_interval(certificate, policy)
    agreement = f"top-1 {certificate.top1_agreement:.2%}"
    if policy.confidence:
        agreement += f" ({policy.confidence:.0%}: {low:.2%} to {high:.2%})"
    return {
        "file": f"{artifact.file}, {artifact.bytes:,} bytes, opset {artifact.opset}",
        "sha256": f"{artifact.sha256[:16]}...",
        "certificate": f"{certificate.id[:16]}...",
        "policy": f"{policy.name}: {', '.join(bounds)}",
        "compared with": certificate.reference or "the network in PyTorch",
        "images": certificate.images_source,
        "batch sizes": ", ".join(map(str, certificate.batch_sizes)),
        "logit error": f"max {certificate.max_abs_error:.2g}, p99 {certificate.p99_abs_error:.2g}, mean {certificate.mean_abs_error:.2g}",
        "agreement": f"{agreement}, top-5 {certificate.top5_agreement:.2%}",
        "accuracy": accuracy,
        "provider": f"{certificate.provider} on {certificate.machine}",
    }


def as_object(folder: Path, manifest: Manifest, failures: dict[str, str]) -> dict[str, object]:
    """For JSON: where the version lies, its manifest, and why other precisions are not published."""
    fields = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    return {"folder": str(folder), "manifest": fields, "not_published": failures}


@dataclass(frozen=True)
class Row:
    """One version: its precisions, when it was made, its size on disk in bytes, and what is broken (empty if nothing)."""

    model: str
    version: int
    precisions: list[str]
    created_at: str
    bytes: int
    broken: str


def read_listing(repository: Path) -> list[Row]:
    """Every version, each checked as a server would; raise RepositoryError if there is no such folder."""
    if not repository.is_dir():
        raise RepositoryError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    models = sorted(entry for entry in repository.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [_row(model / str(version)) for model in models for version in versions(model)]


def _row(folder: Path) -> Row:
    size = sum(path.lstat().st_size for path in folder.iterdir())
    try:
        manifest = read_manifest(folder)
        read_labels(folder, manifest)
    except ManifestError as error:
        return Row(folder.parent.name, int(folder.name), [], "", size, str(error))
    holding, broken = [], []
    for artifact in manifest.artifacts:
        try:
            check_artifact(folder, manifest, artifact)
            holding.append(artifact.precision)
        except ManifestError as error:
            broken.append(str(error))
    return Row(folder.parent.name, int(folder.name), holding, manifest.created_at, size, "; ".join(broken))


def listing(rows: list[Row]) -> Table:
    """A row for each version."""
    table = Table()
    for column in ("model", "version", "precisions", "published", "MB", "state"):
        table.add_column(column, justify="right" if column in ("version", "MB") else "left")
    for row in rows:
        state = f"BROKEN: {row.broken}" if row.broken else "whole"
        table.add_row(row.model, str(row.version), ", ".join(row.precisions), row.created_at, f"{row.bytes / 1e6:.1f}", state)
    return table
