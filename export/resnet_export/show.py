"""A manifest for people."""

from resnet_proto.manifest_pb2 import Artifact, Manifest
from rich.table import Table


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
    return {
        "file": f"{artifact.file}, {artifact.bytes:,} bytes, opset {artifact.opset}",
        "sha256": f"{artifact.sha256[:16]}...",
        "certificate": f"{certificate.id[:16]}...",
        "policy": f"{policy.name}: {', '.join(bounds)}",
        "images": certificate.images_source,
        "batch sizes": ", ".join(map(str, certificate.batch_sizes)),
        "logit error": f"max {certificate.max_abs_error:.2g}, p99 {certificate.p99_abs_error:.2g}, mean {certificate.mean_abs_error:.2g}",
        "agreement": f"top-1 {certificate.top1_agreement:.2%}, top-5 {certificate.top5_agreement:.2%}",
        "accuracy": accuracy,
        "provider": f"{certificate.provider} on {certificate.machine}",
    }
