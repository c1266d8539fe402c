"""Policies and identity of certificates, without a model."""

import math
from pathlib import Path

import pytest
from resnet_proto.certificate import POLICIES, CertificateError, certificate_id, seal, violations
from resnet_proto.manifest import ManifestError, check_digest, read_manifest, write_manifest
from resnet_proto.manifest_pb2 import Certificate, Manifest


def certificate(policy: str = "strict", **figures: float) -> Certificate:
    made = Certificate(policy=POLICIES[policy], images=10, batch_sizes=[1], top1_agreement=1.0)
    for name, value in figures.items():
        setattr(made, name, value)
    return seal(made)


@pytest.mark.parametrize(
    ("made", "finding"),
    [
        (certificate(), None),
        (certificate(max_abs_error=1e-3), None),
        (certificate(max_abs_error=1.01e-3), "max absolute logit error 0.00101 > 0.001"),
        (certificate(top1_agreement=0.999), "top-1 agreement 99.9000% < 100.0000%"),
        (certificate(max_abs_error=math.nan), "an output is not finite"),
        (certificate("fp16", top1_agreement=0.999, max_abs_error=1), None),
        (certificate("fp16", top1_agreement=0.9989), "top-1 agreement"),
        (certificate("int8", top1_agreement=0.99, reference_accuracy=92.0, artifact_accuracy=91.5), None),
        (certificate("int8", reference_accuracy=92.0, artifact_accuracy=91.4), "accuracy lost 0.60 points > 0.5"),
    ],
)
def test_each_policy_bounds_what_it_says(made: Certificate, finding: str | None) -> None:
    broken = violations(made)
    assert (broken == []) if finding is None else (finding in broken[0])


def test_a_certificate_without_images_or_policy_certifies_nothing() -> None:
    with pytest.raises(CertificateError, match="names no images"):
        violations(Certificate(policy=POLICIES["strict"]))


def test_any_field_changes_the_id() -> None:
    made = certificate()
    before = made.id
    made.versions["torch"] = "2"
    assert certificate_id(made) != before


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = Manifest(format=1, name="a", version="3")
    manifest.artifacts.add(precision="fp32", certificate=certificate(mean_abs_error=0.1))
    write_manifest(tmp_path, manifest)
    read = read_manifest(tmp_path)
    assert read == manifest
    assert certificate_id(read.artifacts[0].certificate) == read.artifacts[0].certificate.id


def test_every_altered_byte_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(format=1, name="a", version="3"))
    path = tmp_path / "manifest.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ManifestError, match="altered after publishing"):
            read_manifest(tmp_path)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(format=2))
    with pytest.raises(ManifestError, match="format is 2; this release reads 1"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b"])
def test_a_file_outside_the_version_is_never_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a plain file name"):
        check_digest(tmp_path, name, "")
