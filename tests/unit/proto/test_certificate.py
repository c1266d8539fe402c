"""Policies and identity of certificates, without a model."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from resnet_proto.certificate import POLICIES, CertificateError, certificate_id, seal, violations
from resnet_proto.manifest import (
    ManifestError,
    check_artifact,
    check_certificate,
    check_digest,
    input_sha256,
    read_manifest,
    write_manifest,
)
from resnet_proto.manifest_pb2 import Artifact, Certificate, Manifest, Policy


def certificate(policy: str = "strict", **figures: Any) -> Certificate:
    """A certificate on 1,000 images that holds, but for the figures given."""
    given: dict[str, Any] = {"images": 1000, "batch_sizes": [1], "top1_agreement": 1.0, "flips": 0, "decided_flips": 0, "logit_scale": 5.0}
    return seal(Certificate(policy=POLICIES[policy], **(given | figures)))


def accuracy(gained: int, lost: int) -> dict[str, Any]:
    return {"reference_accuracy": 92.0, "artifact_accuracy": 92.0 + (gained - lost) / 10, "gained": gained, "lost": lost}


@pytest.mark.parametrize(
    ("made", "finding"),
    [
        (certificate(), None),
        (certificate(max_abs_error=5e-4), None),
        (certificate(max_abs_error=5.1e-4), "max absolute logit error 0.00051 > 0.0005, 0.0001 of the logits' spread of 5"),
        (certificate(max_abs_error=4e-4, logit_scale=0.1), "max absolute logit error"),
        (certificate(max_abs_error=0.09, logit_scale=1000), None),
        (certificate(logit_scale=math.nan), "max absolute logit error"),
        (certificate(flips=1, decided_flips=0), None),
        (certificate(flips=1, decided_flips=1), "top-1 agreement 99.9000% < 100.0000%"),
        (certificate(max_abs_error=math.nan), "an output is not finite"),
        (certificate(images=15), "made on 15 images; policy strict asks for at least 16"),
        (certificate(generated_images=True), None),
        (certificate("fp16", max_abs_error=0.1, flips=1), None),
        (certificate("fp16", max_abs_error=0.11), "max absolute logit error"),
        (certificate("fp16", generated_images=True), "made on generated images; policy fp16 asks for photographs"),
        (certificate("int8", flips=3, max_abs_error=9), None),
        (
            certificate("int8", flips=4),
            "4 of 1000 images have another top-1: the agreement may be as low as 98.98% (95% interval) < 99.00%",
        ),
        (certificate("int8", images=368), None),
        (certificate("int8", images=367), "made on 367 images; policy int8 asks for at least 368"),
        (certificate("int8", generated_images=True), "made on generated images"),
        (certificate("int8", **accuracy(0, 0)), None),
        (certificate("int8", **accuracy(1, 1)), None),
        (certificate("int8", **accuracy(0, 1)), "as many as 0.56 points of accuracy may be lost (95% interval) > 0.5"),
        (certificate("int8", **accuracy(2, 2)), "as many as 0.55 points"),
        (certificate("int8", **accuracy(0, 0), stated_accuracy=94.0), None),
        (certificate("int8", **accuracy(0, 0), stated_accuracy=96.0), "gets 92.00 % of the images right, its checkpoint states 96.00 %"),
        (certificate(**accuracy(0, 0), stated_accuracy=99.0), "are variant, preprocessing and labels those it was trained with?"),
    ],
)
def test_each_policy_bounds_what_it_says(made: Certificate, finding: str | None) -> None:
    broken = violations(made)
    assert (broken == []) if finding is None else (finding in broken[0])


def test_a_certificate_without_images_or_policy_certifies_nothing() -> None:
    with pytest.raises(CertificateError, match="names no images"):
        violations(Certificate(policy=POLICIES["strict"]))


def test_counts_beyond_the_images_certify_nothing() -> None:
    with pytest.raises(CertificateError, match="counts more images than it was made on"):
        violations(certificate("int8", flips=1001))
    with pytest.raises(CertificateError, match="counts more images"):
        violations(certificate("int8", gained=600, lost=600))


def test_a_looser_error_bound_of_the_publishers_does_not_excuse_flips_elsewhere() -> None:
    loose = Policy(name="mine", max_abs_error=1e6)
    made = seal(Certificate(policy=loose, images=1000, batch_sizes=[1], top1_agreement=0.5, flips=500, decided_flips=0, logit_scale=5))
    assert violations(made) == []
    assert "top-1 agreement 50.0000% < 100.0000%" in violations(made, POLICIES["strict"])[-1]
    assert "500 of 1000 images have another top-1" in violations(made, POLICIES["int8"])[0]


def test_any_field_changes_the_id() -> None:
    made = certificate()
    before = made.id
    made.versions["torch"] = "2"
    assert certificate_id(made) != before


def test_the_id_is_of_the_fields_that_are_present() -> None:
    """Were this to change, every published certificate would be refused: a field that is added must leave it alone."""
    policy = Policy(name="mine", min_top1_agreement=0.99)
    made = Certificate(policy=policy, images=1000, mean_abs_error=0.1, versions={"b": "2", "a": "1"})
    assert certificate_id(made) == PINNED
    assert certificate_id(Certificate(policy=policy, images=1000, mean_abs_error=0.1, versions={"a": "1", "b": "2"}, id="x")) == PINNED


PINNED = "3ab57ed8b1e48c096630fdef47bed77be53e93c90b08abbfcd803e0a551945f4"

# Written by release 0.1.0, format 1.
OLD = json.loads("""{"format": 1, "name": "old", "version": "1", "source": {"checkpoint_sha256": "cc"}, "artifacts": [{"precision": "int8",
"file": "model.int8.onnx", "sha256": "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4", "bytes": "5", "certificate": {
"id": "e00915164415bc46c890f9df828373a730ce7d414fb61660bcb7fe83c5e9673f",
"artifact_sha256": "9372c470eeadd5ecd9c3c74c2b3cb633f8e2f2fad799250a0f70d652b6b825e4", "checkpoint_sha256": "cc", "git_revision": "abc",
"policy": {"name": "int8", "min_top1_agreement": 0.99, "max_accuracy_loss": 0.5}, "images": 1000,
"images_source": "1,000 bundled CIFAR-10 test images", "images_sha256": "ii", "batch_sizes": [1, 2, 7, 64], "max_abs_error": 1.8,
"mean_abs_error": 0.08, "p99_abs_error": 0.3, "top1_agreement": 0.992, "top5_agreement": 0.97, "reference_accuracy": 92.4,
"artifact_accuracy": 92.1, "accuracy_change_low": -0.7, "accuracy_change_high": 0.1, "calibration_sha256": "dd",
"provider": "CPUExecutionProvider", "versions": {"python": "3.11", "torch": "2.15.0"}, "machine": "m",
"created_at": "2026-11-01T00:00:00+00:00"}}]}""")


def old_version(folder: Path) -> Manifest:
    """A version of format 1, as it lies on people's disks."""
    from google.protobuf import json_format

    manifest = json_format.ParseDict(OLD, Manifest())
    write_manifest(folder, manifest)
    (folder / "model.int8.onnx").write_bytes(b"model")
    return read_manifest(folder)


def test_a_certificate_of_format_1_still_holds_by_its_own_policy(tmp_path: Path) -> None:
    manifest = old_version(tmp_path)
    assert check_artifact(tmp_path, manifest, manifest.artifacts[0]).name == "model.int8.onnx"
    manifest.artifacts[0].certificate.max_abs_error = 1.7
    with pytest.raises(ManifestError, match="fields do not give its id"):
        check_artifact(tmp_path, manifest, manifest.artifacts[0])


def test_what_the_id_of_format_1_does_not_cover_must_not_be_there(tmp_path: Path) -> None:
    manifest = old_version(tmp_path)
    manifest.artifacts[0].certificate.policy.min_images = 1
    with pytest.raises(ManifestError, match="fields do not give its id"):
        check_artifact(tmp_path, manifest, manifest.artifacts[0])


def test_a_certificate_of_format_1_is_held_to_a_required_policy_by_what_it_states(tmp_path: Path) -> None:
    manifest = old_version(tmp_path)
    with pytest.raises(ManifestError, match=r"fails the required policy int8: 8 of 1000 images .* made by an older release"):
        check_artifact(tmp_path, manifest, manifest.artifacts[0], required=("int8",))


def whole() -> tuple[Manifest, Artifact]:
    manifest = Manifest(format=2, name="a", version="3")
    manifest.input.height = manifest.input.width = manifest.input.resize_shorter_side = 32
    manifest.output.labels_sha256 = "labels"
    made = certificate(labels_sha256="labels", input_sha256=input_sha256(manifest.input))
    manifest.artifacts.add(precision="fp32", file="model.fp32.onnx").certificate.CopyFrom(made)
    return manifest, manifest.artifacts[0]


def test_labels_and_preprocessing_are_under_the_seal() -> None:
    check_certificate(*whole())
    manifest, artifact = whole()
    manifest.input.interpolation = "bicubic"
    with pytest.raises(ManifestError, match="made with another preprocessing"):
        check_certificate(manifest, artifact)
    manifest, artifact = whole()
    manifest.output.labels_sha256 = "others"
    with pytest.raises(ManifestError, match="made with other labels"):
        check_certificate(manifest, artifact)


def test_a_required_policy_looks_at_the_figures_and_not_at_the_publishers_bounds(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"model")
    manifest = Manifest(format=2)
    artifact = manifest.artifacts.add(precision="int8", file="model", sha256=OLD["artifacts"][0]["sha256"])
    made = certificate("int8", flips=40, artifact_sha256=artifact.sha256, input_sha256=input_sha256(manifest.input))
    made.policy.min_top1_agreement, made.policy.name = 0.0, "int8, overridden"
    artifact.certificate.CopyFrom(seal(made))
    check_artifact(tmp_path, manifest, artifact)
    with pytest.raises(ManifestError, match="fails the required policy int8: 40 of 1000 images"):
        check_artifact(tmp_path, manifest, artifact, required=("strict", "int8"))
    with pytest.raises(ManifestError, match="int8 has none of the required policies strict, fp16"):
        check_artifact(tmp_path, manifest, artifact, required=("strict", "fp16"))


def test_a_manifest_survives_the_disk(tmp_path: Path) -> None:
    manifest = Manifest(format=2, name="a", version="3")
    manifest.artifacts.add(precision="fp32", certificate=certificate(mean_abs_error=0.1))
    write_manifest(tmp_path, manifest)
    read = read_manifest(tmp_path)
    assert read == manifest
    assert certificate_id(read.artifacts[0].certificate) == read.artifacts[0].certificate.id


def test_every_altered_byte_of_a_manifest_is_noticed(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(format=2, name="a", version="3"))
    path = tmp_path / "manifest.json"
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ManifestError, match="altered after publishing"):
            read_manifest(tmp_path)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(format=3))
    with pytest.raises(ManifestError, match="format is 3; this release reads 1 and 2"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b"])
def test_a_file_outside_the_version_is_never_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a plain file name"):
        check_digest(tmp_path, name, "")
