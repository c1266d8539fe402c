"""What a source refuses, says and chooses."""

import argparse
import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import others
import pytest
import torch
from click.testing import CliRunner
from networks import seeded
from resnet_export.cli import main, publish
from resnet_export.describe import describe
from resnet_export.errors import ExportError
from resnet_export.facts import fill_input
from resnet_export.sources.expected import read_expected
from resnet_export.sources.files import definition
from resnet_export.sources.interface import Given, Preprocessing
from resnet_export.sources.opening import open_source, read_source
from resnet_models.checkpoint import CheckpointInfo
from resnet_models.errors import ResnetModelsError
from resnet_models.normalisation import IMAGENET
from resnet_models.variants import VARIANTS, find_variant
from resnet_proto.manifest import sha256_file
from resnet_proto.manifest_pb2 import Input
from torch import nn
from torchvision.models import resnet18
from torchvision.models.resnet import ResNet
from tried_cases import write


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"label {index}\n" for index in range(others.CLASSES)))
    return path


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def refusal(path: Path, given: Given) -> str:
    with pytest.raises((ExportError, ResnetModelsError)) as error:
        read_source(path, given)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700
    return str(error.value)


class Own:
    """A class of the user's, pickled beside the weights."""


def test_objects_beside_the_weights_are_not_read_and_one_line_says_what_to_save(labels: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": others.plain().state_dict(), "config": Own()})
    text = refusal(path, Given(labels=labels))
    assert "Own beside its tensors, which is not read since that could run code; save the weights alone" in text


def test_a_pickled_model_is_not_read(labels: Path, tmp_path: Path) -> None:
    assert "save the weights alone: torch.save(model.state_dict(), 'weights.pth')" in refusal(
        saved(tmp_path / "a.pth", others.plain()), Given(labels=labels)
    )


def test_options_and_numbers_beside_the_weights_are_read(labels: Path, tmp_path: Path) -> None:
    beside: dict[str, object] = {"args": argparse.Namespace(lr=0.1), "best": np.float32(0.9), "history": np.arange(3), "when": np.int64(3)}
    beside["places"] = {"root": Path("/data"), "cache": PureWindowsPath("C:/cache"), "log": PurePosixPath("log")}
    path = saved(tmp_path / "a.pth", {"model": others.plain().state_dict(), **beside})
    assert read_source(path, Given(labels=labels)).checkpoint.info.variant == "resnet10"


def test_torchscript_says_what_to_save(labels: Path, tmp_path: Path) -> None:
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(others.plain()), tmp_path / "a.pt")
    assert "is a TorchScript archive" in refusal(tmp_path / "a.pt", Given(labels=labels))


def test_quantised_weights_say_what_to_publish(labels: Path, tmp_path: Path) -> None:
    state = dict(others.plain().state_dict())
    with pytest.warns(UserWarning, match="deprecated"):
        state["layer1.0.conv1.weight"] = torch.quantize_per_tensor(state["layer1.0.conv1.weight"], 0.01, 0, torch.qint8)
    assert "is quantised (layer1.0.conv1.weight); publish the network before" in refusal(
        saved(tmp_path / "a.pth", state), Given(labels=labels)
    )


def test_a_backbone_without_its_classifier_is_refused(labels: Path, tmp_path: Path) -> None:
    state = {key: value for key, value in others.plain().state_dict().items() if not key.startswith("fc.")}
    assert "one linear layer must take the 512 channels of the last stage, none does; a backbone" in refusal(
        saved(tmp_path / "a.pth", state), Given(labels=labels)
    )


def test_several_networks_are_named_and_chosen(labels: Path, tmp_path: Path) -> None:
    networks = {"student": seeded(others.plain()).state_dict(), "teacher": seeded(others.plain(), 1).state_dict()}
    path = saved(tmp_path / "a.pth", networks)
    assert "holds several networks: student, teacher; choose with --weights" in refusal(path, Given(labels=labels))
    assert "weights: 'x' is not in a.pth; expected one of student, teacher" in refusal(path, Given(labels=labels, weights="x"))
    chosen = read_source(path, Given(labels=labels, weights="teacher")).checkpoint.network
    assert torch.equal(chosen.state_dict()["fc.weight"], networks["teacher"]["fc.weight"])


def test_averaged_weights_are_taken_and_said(labels: Path, tmp_path: Path) -> None:
    plain, averaged = seeded(others.plain()).state_dict(), seeded(others.plain(), 1).state_dict()
    source = read_source(saved(tmp_path / "a.pth", {"state_dict": plain, "state_dict_ema": averaged}), Given(labels=labels))
    assert torch.equal(source.checkpoint.network.state_dict()["fc.weight"], averaged["fc.weight"])
    assert "took the averaged weights state_dict_ema; --weights chooses state_dict" in source.notes


def test_at_most_five_keys_are_named_with_the_nearest_variant(labels: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", resnet18(num_classes=others.CLASSES).state_dict())
    text = refusal(path, Given(variant="resnet34", labels=labels))
    assert text.count("missing ") == 5
    assert "and 75 more. Perhaps another variant: the names and shapes are those of resnet18" in text


def test_what_a_file_does_not_say_is_named_with_what_it_does(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", others.plain().state_dict())
    assert "a.pth has 37 classes and does not say --labels; give these options" in refusal(path, Given())


def test_labels_of_another_number_are_refused(labels: Path, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", others.plain(5).state_dict())
    assert "labels: labels.txt holds 37; the network has 5 classes" in refusal(path, Given(labels=labels))


def test_no_option_is_ignored_silently(labels: Path, pretrained: Path) -> None:
    assert "--labels: resnet20.safetensors says this itself" in refusal(pretrained, Given(labels=labels))
    with (
        pytest.raises(ExportError, match="--labels: random weights have no such facts"),
        open_source("resnet20", Given(labels=labels), True),
    ):
        pass
    named = open_source("torchvision:resnet18", Given(variant="resnet34"))
    with pytest.raises(ExportError, match="--variant: torchvision:resnet18 says the architecture"), named:
        pass


def test_lightnings_hyperparameters_may_name_the_classes(tmp_path: Path) -> None:
    names = [f"kind {index}" for index in range(others.CLASSES)]
    state = {"net." + key: value for key, value in others.plain().state_dict().items()}
    content = {"state_dict": state, "pytorch-lightning_version": "2.5", "hyper_parameters": {"class_names": names, "lr": 1e-3}}
    source = read_source(saved(tmp_path / "a.ckpt", content), Given())
    assert source.checkpoint.info.labels == tuple(names)
    assert any("Lightning" in note for note in source.notes)


def test_weights_alone_say_what_they_are_compared_with(labels: Path, tmp_path: Path) -> None:
    info = read_source(saved(tmp_path / "a.pth", others.bottlenecks().state_dict()), Given(labels=labels)).checkpoint.info
    assert info.reference.startswith("parity with our definition of resnet14, v1.5: stride on the 3x3 convolution")
    assert "v1: stride on the first 1x1" in definition(find_variant("resnet50-v1"))


def test_a_module_of_the_users_that_ours_equals_gets_the_leaner_graph(labels: Path, tmp_path: Path) -> None:
    stated = {"mean": IMAGENET.mean, "std": IMAGENET.std, "labels": labels, "size": 64}
    for name, ours in (("plain", True), ("no_pool", False)):
        module = seeded(getattr(others, name)())
        path = saved(tmp_path / f"{name}.pth", module.state_dict())
        with open_source(str(path), Given(model=f"others:{name}", **stated)) as source:  # type: ignore[arg-type]  # options by name
            assert isinstance(source.checkpoint.network, ResNet) is False
            assert (source.checkpoint.network is not source.checkpoint.reference) is ours
            assert source.checkpoint.info.reference == f"others:{name}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("others", "expected PACKAGE.MODULE:FACTORY"),
        ("others:nothing", "cannot be built: AttributeError"),
        ("others:bottlenecks", "does not say --mean, --std, --labels"),
        ("json:dumps", "cannot be built: TypeError"),
        ("builtins:dict", "gives a dict; expected a torch.nn.Module"),
    ],
)
def test_a_factory_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ExportError, match=message), open_source(None, Given(model=text)):
        pass


def test_what_came_from_the_hub_is_named_by_the_digest_of_its_own_file(tmp_path: Path) -> None:
    tried, given = write("timm resnet18", tmp_path)
    folder = Path(tried.text)
    for text in (folder, folder / "model.safetensors"):
        with open_source(str(text), given) as source:
            manifest = describe(source.checkpoint, source.file, "mine")
        assert manifest.source.checkpoint_sha256 == sha256_file(folder / "model.safetensors")
        assert manifest.source.checkpoint_file == "model.safetensors"
        assert manifest.source.origin == "timm resnet18"


def test_folders_that_are_of_another_kind_are_refused(labels: Path, tmp_path: Path) -> None:
    assert "is a folder without config.json" in refusal(tmp_path, Given(labels=labels))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    assert "is a 'vit' of transformers; expected a resnet" in refusal(tmp_path, Given())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "resnet"}))
    assert "holds neither; expected model.safetensors or pytorch_model.bin" in refusal(tmp_path, Given())
    (tmp_path / "config.json").write_text("[1]")
    assert "is a JSON list; expected an object" in refusal(tmp_path, Given())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "mean has 1 numbers and std 2"),
        ({"mean": (0.5,), "std": (0.0,)}, "std above 0"),
        ({"mean": (0.5,), "std": (0.5,), "interpolation": "cubic"}, "interpolation: 'cubic'; expected one of nearest"),
        ({"mean": (0.5,), "std": (0.5,), "colour_order": "rgb"}, "colour_order: 'rgb'; expected RGB or BGR"),
        ({"mean": (0.5,), "std": (0.5,), "size": 0}, "size: 0"),
    ],
)
def test_preprocessing_that_no_image_can_go_through_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        Preprocessing(**options)  # type: ignore[arg-type]  # options by name


@pytest.mark.parametrize("std", ["0,0,0", "-1,1,1", "0.2,nan,0.2"])
def test_a_standard_deviation_that_cannot_be_divided_by_is_refused(std: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["publish", "x", "--repository", str(tmp_path), "--std", std])
    assert result.exit_code == 2
    assert "expected finite positive numbers" in result.output


FACTS = CheckpointInfo("resnet10", ("a", "b"), IMAGENET, 8)


def expected_from(path: Path, **arrays: object) -> object:
    spec = Input()
    fill_input(spec, FACTS)
    np.savez(path, **arrays)  # type: ignore[arg-type]  # arrays by name
    return read_expected(path, FACTS, spec)


def test_expected_images_come_as_pixels_or_normalised(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    logits = np.ones((3, 2), np.float32)
    normalised = (pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255 - np.reshape(IMAGENET.mean, (3, 1, 1))) / np.reshape(
        IMAGENET.std, (3, 1, 1)
    )
    for images in (pixels, normalised.astype(np.float32)):
        found = expected_from(tmp_path / "a.npz", images=images, logits=logits)
        assert np.array_equal(found.images, pixels)  # type: ignore[attr-defined]  # an Expected


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"logits": np.ones((3, 5))}, r"has logits \[3, 5\]; the network has 2 classes"),
        ({"logits": np.ones((3, 2)), "images": np.zeros((2, 8, 8, 3), np.uint8)}, "has 2 images and 3 rows of logits"),
        (
            {"logits": np.ones((1, 2)), "images": np.zeros((1, 9, 9, 3), np.uint8)},
            r"has images uint8 \[1, 9, 9, 3\]; the network takes 8x8x3",
        ),
        ({"logits": np.ones((1, 2)), "images": np.full((1, 3, 8, 8), 0.123)}, "are no pixels normalised by mean"),
        ({"logits": np.ones((1, 2)), "files": np.array(["nowhere.png"])}, "nowhere.png"),
    ],
)
def test_expectations_that_do_not_fit_are_refused(arrays: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        expected_from(tmp_path / "a.npz", **arrays)


class WithProbabilities(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x.mean((2, 3)), 1)


def test_an_onnx_file_that_gives_probabilities_is_refused(labels: Path, tmp_path: Path) -> None:
    torch.onnx.export(WithProbabilities().eval(), (torch.zeros(1, 3, 8, 8),), str(tmp_path / "a.onnx"), dynamo=True, verbose=False)
    with pytest.raises(ExportError, match="ends in Softmax; expected logits"):
        read_source(tmp_path / "a.onnx", Given(labels=labels))


PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "your-own-network.md"


def test_the_page_names_options_and_variants_that_there_are() -> None:
    text = PAGE.read_text(encoding="utf-8")
    known = {name for parameter in publish.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert set(re.findall(r"`?(--[a-z][a-z-]+)", text)) <= known
    assert {name for name in re.findall(r"`(resnet[a-z0-9_-]+)`", text) if name not in ("resnet-train", "resnet-export")} <= set(VARIANTS)


def test_every_option_of_a_source_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    options = {f"--{name.replace('_', '-')}" for name in Given.__dataclass_fields__} - {"--antialias"}
    assert {option for option in options if option not in text} == set()
