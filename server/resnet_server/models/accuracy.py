"""How accurate a published file is, 0..1, as far as manifest and certificate say."""

from resnet_proto.manifest_pb2 import Artifact, Manifest


def stated(manifest: Manifest, artifact: Artifact) -> float | None:
    """That of the trained network, less what the certificate found the file to lose; None where either is not known.

    Training is judged on a whole test set, and a certificate on a thousand of its images: enough to compare two files of one network,
    too few to compare networks.
    """
    source, certificate = manifest.source, artifact.certificate
    known = source.HasField("accuracy") and certificate.HasField("artifact_accuracy") and certificate.HasField("reference_accuracy")
    if not (manifest.network.trained and known):
        return None
    return max(0.0, source.accuracy + certificate.artifact_accuracy - certificate.reference_accuracy) / 100


def certified(artifact: Artifact) -> float | None:
    """On the certificate's images alone; None where they have no labels."""
    certificate = artifact.certificate
    return certificate.artifact_accuracy / 100 if certificate.HasField("artifact_accuracy") else None
