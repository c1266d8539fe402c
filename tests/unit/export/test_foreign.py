"""Checkpoints of others, through the exported ONNX."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from resnet_export.cli import main
from resnet_export.errors import ExportError
from resnet_export.sources.interface import Given
from resnet_export.sources.opening import read_source
from resnet_models.errors import CheckpointError
from resnet_models.foreign import ForeignFacts, find_weights, load_foreign, read_content
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.network import build
from resnet_models.normalisation import IMAGENET

FACTS = ForeignFacts("resnet20", CIFAR10_LABELS, IMAGENET)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("\n".join(CIFAR10_LABELS))
    return path


def foreign_options(variant: str, labels: Path) -> list[str]:
    return ["--variant", variant, "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225", "--labels", str(labels)]


def test_prefixes_and_other_names_are_understood(tmp_path: Path) -> None:
    network = build("resnet20")
    state = {"module." + key.replace("fc.", "linear."): value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 90.0}, tmp_path / "a.th")
    loaded = load_foreign(tmp_path / "a.th", FACTS)
    for key, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], value)


def test_every_key_that_does_not_fit_is_named(tmp_path: Path) -> None:
    state = build("resnet20").state_dict()
    state["layer9.0.conv1.bias"] = state.pop("bn1.weight")
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"does not fit resnet20: missing bn1\.weight; unexpected layer9\.0\.conv1\.bias\. For layers"
    ):
        load_foreign(tmp_path / "a.pth", FACTS)


class Bomb:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit('the pickle ran')",))


@pytest.mark.parametrize("content", [b"garbage", Bomb(), [1, 2], {"state_dict": {"a": 1}}])
def test_what_is_no_state_dict_is_refused_without_running_it(content: object, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"checkpoint: .*a\.pth"):
        load_foreign(path, FACTS)


def test_the_command_line_names_what_a_foreign_file_does_not_say(tmp_path: Path) -> None:
    torch.save(build("resnet20").state_dict(), tmp_path / "a.pth")
    arguments = ["publish", str(tmp_path / "a.pth"), "--repository", str(tmp_path / "r"), "--variant", "resnet20"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "does not say --mean, --std, --labels" in result.output


def test_damage_anywhere_is_one_line(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for zipped in (True, False):
        torch.save(build("resnet20").state_dict(), tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "a.pth").read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            for place in random.integers(0, 1500, 3):
                data[place] = random.integers(256)
            (tmp_path / "b.pth").write_bytes(data[: random.integers(len(data))] if refused % 4 == 0 else data)
            try:
                find_weights(tmp_path / "b.pth", read_content(tmp_path / "b.pth"))
            except CheckpointError as error:
                assert str(error).startswith("checkpoint: ") and "\n" not in str(error)
                refused += 1
    assert refused > 40


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    state = build("resnet18").state_dict()
    state["layer2.0.shortcut.0.weight"] = state["layer2.0.downsample.0.weight"]
    with pytest.raises(CheckpointError, match=r"layer2\.0\.downsample\.0\.weight is there twice"):
        find_weights(tmp_path / "a.pth", dict(state))


def test_imagenet_variants_need_labels_only(labels: Path, tmp_path: Path) -> None:
    torch.save(build("resnet18", 10).state_dict(), tmp_path / "a.pth")
    read = read_source(tmp_path / "a.pth", Given(labels=labels)).checkpoint
    assert (read.info.normalisation, read.info.resize, read.info.input_size) == (IMAGENET, 256, 224)
    with pytest.raises(ExportError, match=r"has 10 classes and does not say --labels; give"):
        read_source(tmp_path / "a.pth", Given("resnet18"))


@pytest.mark.parametrize("mean", ["1;2", "a,b,c", "nan,0,0", "inf,0,0"])
def test_normalisation_must_be_finite_numbers(mean: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["publish", "x", "--repository", str(tmp_path), "--mean", mean])
    assert result.exit_code == 2
    assert f"'{mean}'; expected" in result.output


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "variant", "accuracy"), [("resnet20-12fca82f.th", "resnet20", 91.73), ("resnet56-4bfd9763.th", "resnet56", 93.39)]
)
def test_published_checkpoints_reach_their_accuracy_through_onnx(
    file: str, variant: str, accuracy: float, shared: Path, labels: Path, tmp_path: Path
) -> None:
    arguments = [
        "publish",
        str(shared / "checkpoints" / file),
        "--repository",
        str(tmp_path / "r"),
        *foreign_options(variant, labels),
        "--no-profile",
    ]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    with np.load(shared / "cifar10" / "cifar10_test.npz") as data:
        exact = data["exact"]
        images, truth = np.ascontiguousarray(data["x"][exact].transpose(0, 2, 3, 1)), data["y"][exact]
    session = onnxruntime.InferenceSession(str(tmp_path / "r" / variant / "1" / "model.fp32.onnx"), providers=["CPUExecutionProvider"])
    right = [(session.run(None, {"image": images[i : i + 64]})[0].argmax(1) == truth[i : i + 64]).sum() for i in range(0, len(images), 64)]
    assert len(images) == 9980
    assert 100 * sum(right) / len(images) == pytest.approx(accuracy, abs=0.05)
