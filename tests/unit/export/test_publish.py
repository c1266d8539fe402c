"""Publishing: certified and whole, or nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from onnx import numpy_helper
from resnet_export import graph as graph_module
from resnet_export import publish as module
from resnet_export.certify import certify, change_interval
from resnet_export.cli import main
from resnet_export.errors import ExportError, ParityError, RepositoryError
from resnet_export.graph import ServingGraph, export_onnx
from resnet_export.images import ImageSet, bundled, choose_images, from_folder
from resnet_export.publish import Request, publish
from resnet_export.reference import Logits, reference_logits
from resnet_models.checkpoint import Checkpoint, CheckpointInfo, load_checkpoint
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.normalisation import CIFAR10, IMAGENET
from resnet_models.sample import load_sample
from resnet_proto.certificate import POLICIES
from resnet_proto.manifest import ManifestError, check_artifact, read_labels, read_manifest
from resnet_proto.manifest_pb2 import Input


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
    assert certificate.images == 1000
    assert list(certificate.batch_sizes) == [1, 2, 7, 64]
    assert certificate.max_abs_error <= 1e-3
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
    return certify(path, reference, images, POLICIES["strict"], checkpoint_sha256="", git_revision="").broken


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
    assert "fails policy strict: max absolute logit error 0.01 > 0.001 (differing most: certification image" in text
    assert "; nothing is published\nworst image: " in text
    assert "worst image: certification image" in text
    assert text.count("[") >= 2
    assert not list((tmp_path / "repository").glob("**/*"))


def test_a_version_is_never_overwritten_and_the_next_one_follows(checkpoint: Checkpoint, pretrained: Path, own_repository: Path) -> None:
    with pytest.raises(RepositoryError, match="version: 1 of resnet20 exists"):
        publish(checkpoint, pretrained, Request(own_repository, version=1))
    assert publish(checkpoint, pretrained, Request(own_repository)).folder == own_repository / "resnet20" / "2"
    assert sorted(path.name for path in (own_repository / "resnet20").iterdir()) == ["1", "2"]


def test_a_publisher_that_comes_second_leaves_the_first_ones_version(tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="version: 1 of m cannot appear"), module.appearing(tmp_path / "m", 1) as folder:
        (folder / "file").write_text("second")
        (tmp_path / "m" / "1").mkdir()
        (tmp_path / "m" / "1" / "file").write_text("first")
    assert [path.relative_to(tmp_path / "m").as_posix() for path in sorted((tmp_path / "m").rglob("*"))] == ["1", "1/file"]
    assert (tmp_path / "m" / "1" / "file").read_text() == "first"


def test_accuracy_is_claimed_only_for_a_network_of_the_samples_classes() -> None:
    spec = Input(height=32, width=32)
    assert choose_images(spec, CIFAR10_LABELS, None).labels is not None
    others = choose_images(spec, tuple(reversed(CIFAR10_LABELS)), None)
    assert others.labels is None
    assert "no accuracy, since the network's labels are not CIFAR-10's" in others.source


@pytest.mark.parametrize("name", ["", "../x", "A", "a b", ".hidden"])
def test_a_name_that_is_none_is_refused(name: str, checkpoint: Checkpoint, pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(RepositoryError, match="name: "):
        module.model_folder(tmp_path, name)


def test_an_edited_field_of_a_certificate_shows(own_repository: Path) -> None:
    folder = own_repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    manifest.artifacts[0].certificate.max_abs_error = 0.0
    with pytest.raises(ManifestError, match="fields do not give its id"):
        check_artifact(folder, manifest, manifest.artifacts[0])


def test_the_interval_of_the_accuracy_change_covers_paired_differences() -> None:
    before = np.array([True] * 90 + [False] * 10)
    after = before.copy()
    after[:4] = False
    low, high = change_interval(before, after)
    assert low < -4 < high <= 0
    assert change_interval(before, before) == (0, 0)


def test_a_folder_of_photographs_has_labels_where_its_subfolders_are_labels(tmp_path: Path) -> None:
    from PIL import Image

    spec = Input(height=32, width=32, resize_shorter_side=32, interpolation="bilinear")
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        Image.new("RGB", (50, 40), "red").save(tmp_path / label / "a.png")
    found = from_folder(tmp_path, spec, CIFAR10_LABELS)
    assert found.labels is not None
    assert found.labels.tolist() == [3, 5]
    assert found.images.shape == (2, 32, 32, 3)
    with pytest.raises(ExportError, match="holds no JPEG"):
        from_folder(tmp_path / "nowhere", spec, CIFAR10_LABELS)


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
