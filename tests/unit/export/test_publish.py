"""Publishing: certified and whole, or nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from PIL import Image
from resnet_export import graph as graph_module
from resnet_export import precisions
from resnet_export.certify import Subject, certify
from resnet_export.cli import main
from resnet_export.errors import ExportError, ParityError
from resnet_export.graph import ServingGraph, export_onnx
from resnet_export.images import ImageSet, bundled, choose_images
from resnet_export.progress import Silent
from resnet_export.publish import Request, publish
from resnet_export.reference import Logits, reference_logits
from resnet_export.verify import verify_stored
from resnet_models.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.normalisation import CIFAR10, IMAGENET
from resnet_models.sample import load_sample
from resnet_proto.certificate import POLICIES, seal
from resnet_proto.manifest import ManifestError, check_artifact, read_labels, read_manifest, read_replay, write_manifest
from resnet_proto.manifest_pb2 import Certificate, Input


@pytest.fixture(scope="module")
def checkpoint(pretrained: Path) -> Checkpoint:
    return load_checkpoint(pretrained)


@pytest.fixture(scope="module")
def images() -> ImageSet:
    """100 of the certification images: enough to see a defect, quick enough for every test."""
    everything = bundled("certification")
    return ImageSet(
        everything.images[::10], everything.labels[::10] if everything.labels is not None else None, everything.names[::10], "100"
    )


@pytest.fixture(scope="module")
def reference(checkpoint: Checkpoint, images: ImageSet) -> Logits:
    return reference_logits(checkpoint, images.images)


@pytest.fixture(scope="module")
def exported(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.fp32.onnx"
    export_onnx(ServingGraph(checkpoint.network, CIFAR10), 32, path)
    return path


def test_what_is_published_is_certified_whole_and_true(repository: Path, pretrained: Path) -> None:
    folder = repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    (artifact,) = manifest.artifacts
    path = check_artifact(folder, manifest, artifact)
    certificate = artifact.certificate
    assert (certificate.images, certificate.flips, certificate.gained, certificate.lost) == (1000, 0, 0, 0)
    assert (certificate.reference, certificate.stated_accuracy) == ("our definition of resnet20 in PyTorch", manifest.source.accuracy)
    assert certificate.labels_sha256 == manifest.output.labels_sha256
    assert len(certificate.truth_sha256) == 64
    assert list(certificate.batch_sizes) == [1, 2, 7, 64]
    assert certificate.max_abs_error <= 1e-4 * certificate.logit_scale
    assert certificate.top1_agreement == 1
    assert certificate.reference_accuracy == certificate.artifact_accuracy
    assert read_labels(folder, manifest) == CIFAR10_LABELS
    sample = load_sample()
    logits = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"image": sample.images})[0]
    assert 100 * float((logits.argmax(1) == sample.labels).mean()) == pytest.approx(certificate.artifact_accuracy)


def test_the_graph_is_lean_and_takes_any_batch(exported: Path) -> None:
    graph = onnx.load(exported).graph
    kinds = [node.op_type for node in graph.node]
    assert set(kinds) == {"Transpose", "Cast", "Sub", "Conv", "Relu", "Add", "ReduceMean", "Gemm"}
    assert kinds.count("Conv") == 21  # 19 of the network, 2 shortcuts
    assert kinds.count("Cast") == 1
    (image,), (logits,) = graph.input, graph.output
    assert (image.name, image.type.tensor_type.elem_type) == ("image", onnx.TensorProto.UINT8)
    assert (logits.name, logits.type.tensor_type.elem_type) == ("logits", onnx.TensorProto.FLOAT)
    assert image.type.tensor_type.shape.dim[0].dim_param
    session = onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])
    for batch in (1, 3, 65):
        assert session.run(None, {"image": np.zeros((batch, 32, 32, 3), np.uint8)})[0].shape == (batch, 10)


def verdict_of(path: Path, reference: Logits, images: ImageSet) -> list[str]:
    return certify(path, Subject(images, reference, Certificate()), POLICIES["strict"]).broken


def test_a_sound_export_holds(exported: Path, reference: Logits, images: ImageSet) -> None:
    assert verdict_of(exported, reference, images) == []


# Exporters have gone wrong silently in each of these ways: pytorch#169178, #166797, #157621.
def corrupt(kind: str, model: onnx.ModelProto) -> None:
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    last = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
    weight, bias = weights[last.input[1]], weights[last.input[2]]
    if kind == "wrong bias":
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.01), bias.name))
    elif kind == "no accuracy":
        weight.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(weight), 1, 0), weight.name))
        bias.CopyFrom(numpy_helper.from_array(np.roll(numpy_helper.to_array(bias), 1, 0), bias.name))
    elif kind == "not a number":
        bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), bias.name))
    else:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


@pytest.mark.parametrize(
    ("kind", "finding"),
    [
        ("wrong bias", "max absolute logit error 0.01"),
        ("no accuracy", "top-1 agreement"),
        ("not a number", "an output is not finite"),
    ],
)
def test_the_certificate_catches_a_silent_defect(
    kind: str,
    finding: str,
    exported: Path,
    reference: Logits,
    images: ImageSet,
    tmp_path: Path,
) -> None:
    model = onnx.load(exported)
    corrupt(kind, model)
    onnx.save(model, tmp_path / "bad.onnx")
    assert finding in "; ".join(verdict_of(tmp_path / "bad.onnx", reference, images))


def test_the_certificate_catches_a_frozen_batch(exported: Path, reference: Logits, images: ImageSet, tmp_path: Path) -> None:
    model = onnx.load(exported)
    corrupt("frozen batch", model)
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ExportError, match="ONNX Runtime failed on a batch of 1"):
        verdict_of(tmp_path / "bad.onnx", reference, images)


@pytest.fixture
def broken_export(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An exporter that shifts a bias."""

    def export(graph: torch.nn.Module, size: int, path: Path, channels: int) -> None:
        export_onnx(graph, size, path, channels)
        model = onnx.load(path)
        corrupt("wrong bias", model)
        onnx.save(model, path)

    monkeypatch.setattr(graph_module, "export_onnx", export)
    yield


@pytest.mark.usefixtures("broken_export")
def test_a_failed_certificate_publishes_nothing_and_shows_the_worst_image(checkpoint: Checkpoint, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(ParityError) as error:
        publish(checkpoint, pretrained, Request(tmp_path / "repository"))
    text = str(error.value)
    assert "fails policy strict: max absolute logit error 0.01 > 0.000468, 0.0001 of the logits' spread of 4.68 (differing most: " in text
    assert "; nothing is published\nworst image: " in text
    assert "worst image: certification image" in text
    assert text.count("[") >= 2
    assert not list((tmp_path / "repository").glob("**/*"))


def test_accuracy_is_claimed_only_for_a_network_of_the_samples_classes() -> None:
    spec = Input(height=32, width=32)
    assert choose_images(spec, CIFAR10_LABELS, None).labels is not None
    others = choose_images(spec, tuple(reversed(CIFAR10_LABELS)), None)
    assert others.labels is None
    assert "no accuracy, since the network's labels are not CIFAR-10's" in others.source


def test_an_edited_field_of_a_certificate_shows(own_repository: Path) -> None:
    folder = own_repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    manifest.artifacts[0].certificate.max_abs_error = 0.0
    with pytest.raises(ManifestError, match="fields do not give its id"):
        check_artifact(folder, manifest, manifest.artifacts[0])


def test_other_networks_of_the_family_export(tmp_path: Path) -> None:
    for name, size in (("smallresnet", 32), ("plain20", 32), ("resnet18", 224), ("resnet50", 224)):
        network = build(name).eval()
        info = CheckpointInfo(name, tuple(map(str, range(network.fc.out_features))), IMAGENET, size, trained=False)
        export_onnx(ServingGraph(network, IMAGENET), size, tmp_path / f"{name}.onnx")
        images = np.random.default_rng(0).integers(0, 256, (2, size, size, 3), dtype=np.uint8)
        expected = reference_logits(Checkpoint(network, info), images)
        session = onnxruntime.InferenceSession(str(tmp_path / f"{name}.onnx"), providers=["CPUExecutionProvider"])
        actual = session.run(None, {"image": images})[0]
        np.testing.assert_allclose(actual, expected, atol=1e-4 * float(np.abs(expected).max()))


def test_the_command_line_shows_a_manifest(repository: Path) -> None:
    result = CliRunner().invoke(main, ["show", str(repository / "resnet20" / "1")])
    assert result.exit_code == 0, result.output
    assert "269,722 parameters" in result.output
    assert "top-1 100.00%" in result.output


def test_nothing_of_this_machine_is_in_the_file(repository: Path) -> None:
    folder = repository / "resnet20" / "1"
    for path in (folder / "model.fp32.onnx", folder / "manifest.json"):
        data = path.read_bytes()
        places = Path(torch.__file__).parents[1], Path(precisions.__file__).parent, Path.home(), folder.parents[1]
        for place in map(str, places):
            assert place.encode() not in data
        assert b"stack_trace" not in data


def test_every_batch_size_that_is_listed_ran_with_full_batches(exported: Path, reference: Logits, images: ImageSet) -> None:
    few = ImageSet(images.images[:20], None, images.names[:20], "20")
    seen: list[int] = []

    class Counting(Silent):
        def advance(self, images: int) -> None:
            seen.append(images)

    made = certify(exported, Subject(few, reference[:20], Certificate()), POLICIES["strict"], steps=Counting()).certificate
    assert list(made.batch_sizes) == [1, 2, 7, 64]
    assert sorted(set(seen)) == [1, 2, 7, 64]
    assert made.images == 20


def test_a_network_that_misses_its_stated_accuracy_is_not_published(checkpoint: Checkpoint, pretrained: Path, tmp_path: Path) -> None:
    wrong = Checkpoint(checkpoint.network, replace(checkpoint.info, normalisation=IMAGENET, accuracy=99.0))
    with pytest.raises(ParityError, match=r"of the images right, its checkpoint states 99.00 %: are variant, preprocessing and labels"):
        publish(wrong, pretrained, Request(tmp_path))
    assert not list(tmp_path.iterdir())


def test_private_images_are_not_copied_unless_asked(checkpoint: Checkpoint, pretrained: Path, images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    for index, image in enumerate(images.images[:20]):
        Image.fromarray(image).save(tmp_path / "private" / f"{index}.png")
    private = {image.tobytes() for image in images.images[:20]}
    kept = publish(checkpoint, pretrained, Request(tmp_path / "r", images=tmp_path / "private"))
    sample = read_replay(kept.folder, kept.manifest)
    assert sample is not None
    assert kept.manifest.replay.generated_images
    assert not private & {image.tobytes() for image in sample.images}
    assert verify_stored(kept.folder, "cpu")[0].broken == ""
    copied = publish(checkpoint, pretrained, Request(tmp_path / "r", images=tmp_path / "private", copy_images=True))
    sample = read_replay(copied.folder, copied.manifest)
    assert sample is not None
    assert {image.tobytes() for image in sample.images} == private


def test_verify_holds_the_claims_and_not_only_the_policy(own_repository: Path, pretrained: Path) -> None:
    folder = own_repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    certificate = manifest.artifacts[0].certificate
    certificate.reference_accuracy = certificate.artifact_accuracy = 99.0
    certificate.mean_abs_error = 4e-4
    seal(certificate)
    write_manifest(folder, manifest)
    result = CliRunner().invoke(main, ["verify", str(folder), "--checkpoint", str(pretrained)])
    assert result.exit_code == 1
    assert "claims mean_abs_error 0.0004, here" in result.output
    assert "claims that the network gets 99.00 % right, here 92.40 %" in result.output
    certificate.max_abs_error = 0.0
    certificate.policy.max_relative_error = 1e-6
    seal(certificate)
    write_manifest(folder, manifest)
    result = CliRunner().invoke(main, ["verify", str(folder)])
    assert result.exit_code == 1
    assert "claims max_abs_error 0, the stored images alone show" in result.output


def test_programs_read_json(repository: Path) -> None:
    shown = json.loads(CliRunner().invoke(main, ["show", str(repository / "resnet20" / "1"), "--json"]).stdout)
    assert shown["manifest"]["artifacts"][0]["precision"] == "fp32"
    (row,) = json.loads(CliRunner().invoke(main, ["list", str(repository), "--json"]).stdout)
    assert (row["model"], row["version"], row["precisions"], row["broken"]) == ("resnet20", 1, ["fp32"], "")


def test_list_says_what_is_broken_and_rm_takes_it_away(own_repository: Path) -> None:
    (own_repository / "resnet20" / "1" / "labels.txt").write_text("cat\n")
    listed = CliRunner().invoke(main, ["list", str(own_repository)])
    assert "BROKEN: labels.txt: sha256 is" in " ".join(listed.output.split())
    version = str(own_repository / "resnet20" / "1")
    assert CliRunner().invoke(main, ["rm", version], input="n\n").exit_code == 1
    assert Path(version).is_dir()
    removed = CliRunner().invoke(main, ["rm", version, "--yes"])
    assert (removed.exit_code, removed.output) == (0, f"removed: {version}\n")
    assert json.loads(CliRunner().invoke(main, ["list", str(own_repository), "--json"]).stdout) == []


@pytest.mark.parametrize("std", ["0,0,0", "-1,1,1", "1,nan,1"])
def test_a_deviation_that_cannot_divide_is_refused(std: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["publish", "x.pth", "--repository", str(tmp_path), "--std", std])
    assert result.exit_code == 2
    assert f"'{std}'; expected" in result.output
