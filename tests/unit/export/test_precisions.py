"""fp16 and INT8: certified on their own terms, or not published."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
import pytest
import torch
import torchvision
from click.testing import CliRunner
from onnx import TensorProto
from PIL import Image
from resnet_export import cli, images, publish, quantise
from resnet_export.cli import main
from resnet_export.errors import ExportError
from resnet_export.policies import policies_with
from resnet_export.precisions import parse_precisions
from resnet_models.errors import CheckpointError
from resnet_models.published import from_torchvision, weights_file
from resnet_models.sample import SampleName, load_sample
from resnet_proto.manifest import check_artifact, read_labels, read_manifest, sha256_file
from resnet_proto.manifest_pb2 import Artifact

WIDE = ("--min-agreement", "int8=0.97", "--max-accuracy-loss", "int8=2")  # the bundled images show no more on every processor


@pytest.fixture(scope="module")
def artifacts(precise_repository: Path) -> dict[str, Artifact]:
    manifest = read_manifest(precise_repository / "resnet20" / "1")
    return {artifact.precision: artifact for artifact in manifest.artifacts}


def test_every_precision_carries_its_own_certificate(artifacts: dict[str, Artifact], precise_repository: Path) -> None:
    folder = precise_repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    assert list(artifacts) == ["fp32", "fp16", "int8"]
    for artifact in artifacts.values():
        check_artifact(folder, manifest, artifact)
    assert len({artifact.certificate.id for artifact in artifacts.values()}) == 3
    assert [artifact.certificate.policy.name for artifact in artifacts.values()] == ["strict", "fp16", "int8, overridden"]


def test_int8_says_how_it_was_made_and_on_which_images(artifacts: dict[str, Artifact]) -> None:
    artifact = artifacts["int8"]
    assert artifact.recipe["calibration"] in ("minmax", "entropy", "percentile")
    assert artifact.recipe["tried"] == "12"
    assert len(artifact.certificate.calibration_sha256) == 64
    assert artifact.certificate.calibration_sha256 == images.bundled("calibration").sha256
    assert (artifact.certificate.calibration_images, artifact.recipe["calibration_images"]) == (500, "500")
    assert (artifact.recipe["target"], artifact.recipe["format"]) == ("portable", "QDQ U8S8 per channel, weights in 7 bits")
    assert artifact.certificate.accuracy_change_low <= artifact.certificate.accuracy_change_high
    assert artifact.bytes < 0.4 * artifacts["fp32"].bytes


def test_weights_are_of_the_precision_and_the_interface_is_not(artifacts: dict[str, Artifact], precise_repository: Path) -> None:
    expected = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "int8": TensorProto.INT8}
    for precision, artifact in artifacts.items():
        model = onnx.load(precise_repository / "resnet20" / "1" / artifact.file)
        weights = [tensor for tensor in model.graph.initializer if len(tensor.dims) == 4 and tensor.dims[0] >= 16]
        common = max(set(kinds := [tensor.data_type for tensor in weights]), key=kinds.count)
        if precision != "int8":
            assert common == expected[precision]
        else:
            assert kinds.count(TensorProto.INT8) >= 17
        assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
        assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT


def test_nothing_of_this_machine_is_in_any_file(precise_repository: Path) -> None:
    folder = precise_repository / "resnet20" / "1"
    places = (str(Path(torch.__file__).parents[1]), str(Path(publish.__file__).parent), tempfile.gettempdir() + "/", str(folder.parents[1]))
    for path in folder.iterdir():
        data = path.read_bytes()
        assert [place for place in (*places, "stack_trace") if place.encode() in data] == [], path.name


def test_a_precision_that_fails_its_policy_is_left_out_and_the_others_are_published(pretrained: Path, tmp_path: Path) -> None:
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path), "--precision", "fp32,fp16", "--no-profile"]
    result = CliRunner().invoke(main, [*arguments, "--max-error", "fp16=0.000001"])
    assert result.exit_code == 1
    assert "resnet20 fp16 fails policy fp16, overridden: max absolute logit error" in result.output
    assert "this precision is not published, those shown above are" in result.output
    assert "differing most: certification image" in result.output
    manifest = read_manifest(tmp_path / "resnet20" / "1")
    assert [artifact.precision for artifact in manifest.artifacts] == ["fp32"]
    assert not (tmp_path / "resnet20" / "1" / "model.fp16.onnx").exists()


def test_where_no_precision_holds_nothing_is_published(pretrained: Path, tmp_path: Path) -> None:
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path), "--precision", "fp16", "--no-profile"]
    result = CliRunner().invoke(main, [*arguments, "--max-error", "0.000001"])
    assert result.exit_code == 1
    assert "resnet20 fp16 fails policy fp16, overridden" in result.output
    assert not list(tmp_path.iterdir())


def test_int8_is_made_without_publishing_fp32(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "METHODS", {"minmax": quantise.METHODS["minmax"]})
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path), "--precision", "int8", "--no-profile"]
    result = CliRunner().invoke(main, [*arguments, *WIDE])
    assert result.exit_code == 0, result.output
    folder = tmp_path / "resnet20" / "1"
    assert sorted(path.name for path in folder.glob("*.onnx")) == ["model.int8.onnx"]
    assert [artifact.precision for artifact in read_manifest(folder).artifacts] == ["int8"]


def test_int8_of_a_large_network_asks_for_calibration_before_it_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publish, "reference_logits", None)  # calling it would raise TypeError
    arguments = ["publish", "resnet18", "--random-weights", "--repository", str(tmp_path), "--precision", "int8"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "int8: needs real images to calibrate on; give --calibration FOLDER" in result.output


@pytest.mark.parametrize("bound", ["0.9", "int4=0.9", "fp16=0.9", "int8=x", "int8=nan", "int8=-1", "int8=99"])
def test_a_malformed_bound_is_named(bound: str) -> None:
    with pytest.raises(ExportError, match=f"--min-agreement: '{bound}'; expected PRECISION=NUMBER with precision fp32 or int8"):
        policies_with({"--min-agreement": (bound,)}, ("fp32", "int8"))


def test_an_overridden_bound_is_recorded() -> None:
    policy = policies_with({"--min-agreement": ("int8=0.985",)}, ("fp32", "int8"))["int8"]
    assert (policy.name, policy.min_top1_agreement, policy.max_accuracy_loss) == ("int8, overridden", 0.985, 0.5)
    assert policies_with({"--min-agreement": ("0.985",)}, ("int8",))["int8"] == policy
    assert policies_with({}, ("int8",))["int8"].name == "int8"


def test_precisions_are_made_in_the_order_they_depend() -> None:
    assert parse_precisions("int8,fp32") == ("fp32", "int8")
    with pytest.raises(ExportError, match="precision: 'int4'; expected auto, or some of fp32, fp16, int8"):
        parse_precisions("int4")


def test_verify_replays_what_is_stored(precise_repository: Path) -> None:
    result = CliRunner().invoke(main, ["verify", str(precise_repository / "resnet20" / "1")])
    assert result.exit_code == 0, result.output
    assert [line.split(":")[:2] for line in result.output.splitlines()] == [[p, " holds"] for p in ("fp32", "fp16", "int8")]


def test_verify_against_the_checkpoint(repository: Path, pretrained: Path) -> None:
    folder = str(repository / "resnet20" / "1")
    result = CliRunner().invoke(main, ["verify", folder, "--checkpoint", str(pretrained)])
    assert result.exit_code == 0, result.output
    assert "1,000 bundled CIFAR-10 test images (the images of the certificate) against the checkpoint: agreement 100.00%" in result.output
    other = CliRunner().invoke(main, ["verify", folder, "--checkpoint", str(Path(folder) / "labels.txt"), "--variant", "resnet20"])
    assert other.exit_code == 1


def test_verify_notices_a_changed_file(own_repository: Path) -> None:
    path = own_repository / "resnet20" / "1" / "model.fp32.onnx"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    result = CliRunner().invoke(main, ["verify", str(path.parent)])
    assert result.exit_code == 1
    assert "fp32: BROKEN: model.fp32.onnx: sha256 is" in result.output


def test_verifying_needs_no_torch(repository: Path) -> None:
    code = "import sys; sys.modules['torch'] = None; from resnet_export.cli import main; main()"
    command = [sys.executable, "-c", code, "verify", str(repository / "resnet20" / "1")]
    assert "fp32: holds" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def pictures(folder: Path, sample: SampleName, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        Image.fromarray(load_sample(sample).images[index]).save(folder / f"{index}.png")
    return folder


def test_calibration_images_must_not_certify_wherever_either_come_from(pretrained: Path, tmp_path: Path) -> None:
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path / "r"), "--precision", "fp32,int8"]
    both = str(pictures(tmp_path / "images", "certification", 3))
    result = CliRunner().invoke(main, [*arguments, "--images", both, "--calibration", both])
    assert result.exit_code == 1
    assert "calibration: 0.png is also a certification image (3 in all); they must be disjoint" in result.output
    training = str(pictures(tmp_path / "training", "calibration", 5))
    result = CliRunner().invoke(main, [*arguments, "--images", training])  # the default calibration holds them
    assert "calibration: calibration image 0 is also a certification image (5 in all)" in result.output
    assert not (tmp_path / "r").exists()


def test_a_quantiser_that_fails_costs_int8_only(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no\nway")

    monkeypatch.setattr(quantise, "quantize_static", fail)
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path), "--precision", "fp32,int8", "--no-profile"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "resnet20 int8: cannot be quantised: RuntimeError: no way; this precision is not published" in result.output
    folder = tmp_path / "resnet20" / "1"
    assert [artifact.precision for artifact in read_manifest(folder).artifacts] == ["fp32"]
    assert sorted(path.name for path in folder.glob("model*")) == ["model.fp32.onnx"]


def test_auto_publishes_what_holds_and_says_what_does_not(pretrained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantise, "METHODS", {"minmax": quantise.METHODS["minmax"]})
    arguments = ["publish", str(pretrained), "--repository", str(tmp_path), "--no-profile", "--json"]
    result = CliRunner().invoke(main, [*arguments, "--min-agreement", "int8=1"])
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert [artifact["precision"] for artifact in shown["manifest"]["artifacts"]] == ["fp32", "fp16"]
    assert "fails policy int8, overridden" in shown["not_published"]["int8"]
    assert "not published: resnet20 int8 fails policy" in result.stderr


@pytest.mark.parametrize(
    ("target", "vnni", "found"),
    [
        ("portable", True, (quantise.U8S7,)),
        ("portable", False, (quantise.U8S7,)),
        ("vnni", False, (quantise.U8S8,)),
        ("avx2", True, (quantise.U8S7,)),
        ("avx2", False, (quantise.U8S7, quantise.U8S8)),
        ("cuda", True, (quantise.S8S8,)),
    ],
)
def test_a_target_says_in_which_forms_to_try(
    target: str, vnni: bool, found: tuple[quantise.Form, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "has_vnni", lambda: vnni)
    assert quantise.forms(target) == found
    assert tuple(cli.TARGETS) == quantise.TARGETS


def test_random_weights_are_published_as_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "GENERATED", 65)  # one more than the largest batch
    arguments = ["publish", "resnet18", "--repository", str(tmp_path), "--no-profile"]  # auto: noise shows nothing of INT8
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1
    assert "--random-weights publishes it untrained" in refused.output
    result = CliRunner().invoke(main, [*arguments, "--random-weights"])
    assert result.exit_code == 0, result.output
    assert "not published: resnet18 int8: cannot be certified: made on generated images" in result.output
    manifest = read_manifest(tmp_path / "resnet18" / "1")
    assert manifest.network.trained is False
    assert (manifest.input.height, manifest.input.resize_shorter_side) == (224, 256)
    assert "generated images, not photographs" in manifest.artifacts[0].certificate.images_source
    assert not manifest.artifacts[0].certificate.HasField("reference_accuracy")
    assert [artifact.certificate.policy.name for artifact in manifest.artifacts] == ["strict", "fp16, overridden"]
    assert manifest.replay.generated_images


def test_torchvisions_weights_bring_their_preprocessing_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torchvision.models.ResNet50_Weights
    network = torchvision.models.resnet50(weights=None)  # what a download would hold, but for the numbers
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.constant_(module.weight, 0.5)  # keeps the untrained activations in bounds
    monkeypatch.setattr(weights, "get_state_dict", lambda *_, **__: network.state_dict())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    downloaded = weights_file("resnet50", "V2")
    downloaded.parent.mkdir(parents=True)
    torch.save(network.state_dict(), downloaded)
    (tmp_path / "photographs").mkdir()
    for index in range(16):
        Image.fromarray(load_sample().images[index]).resize((400, 300)).save(tmp_path / "photographs" / f"{index}.jpg")
    arguments = ["publish", "torchvision:resnet50:V2", "--repository", str(tmp_path), "--no-profile", "--precision", "fp32"]
    result = CliRunner().invoke(main, [*arguments, "--images", str(tmp_path / "photographs")])
    assert result.exit_code == 0, result.output
    manifest = read_manifest(tmp_path / "resnet50" / "1")
    assert manifest.artifacts[0].certificate.images_source == "16 images of the folder photographs"
    spec, source = manifest.input, manifest.source
    assert (spec.height, spec.resize_shorter_side, spec.interpolation) == (224, 232, "bilinear")
    assert list(spec.mean) == pytest.approx([0.485, 0.456, 0.406])
    assert source.accuracy == pytest.approx(80.858)
    assert source.checkpoint_sha256 == sha256_file(downloaded)  # of the very file that was downloaded
    assert source.origin == "torchvision ResNet50_Weights.IMAGENET1K_V2"
    assert manifest.artifacts[0].certificate.reference.startswith("torchvision")
    assert read_labels(tmp_path / "resnet50" / "1", manifest)[0] == "tench"
    assert (manifest.network.trained, manifest.network.block) == (True, "bottleneck")


def test_without_a_network_the_error_says_which_file_belongs_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(torchvision.models.ResNet50_Weights, "get_state_dict", unreachable)
    with pytest.raises(
        CheckpointError, match=r"resnet50 cannot be downloaded \(no route\); put .*resnet50-\w+\.pth at .*checkpoints/resnet50"
    ):
        from_torchvision("resnet50", "V2")
    with pytest.raises(CheckpointError, match="it has no weights 'V9' of resnet50"):
        from_torchvision("resnet50", "V9")
