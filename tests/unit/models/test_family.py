"""Every network of the family, inferred from the weights of the library it comes from, equals that library's."""

from pathlib import Path

import pytest
import timm
import torch
from networks import logits_of, seeded
from resnet_models.foreign import build_network, find_weights
from resnet_models.variants import VARIANTS
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from transformers import ResNetConfig, ResNetForImageClassification

FILE = Path("weights.pth")
TELLING = 1e-4  # of the logits' spread

SHALLOW = (1, 1, 1, 1)  # a block a stage: all kinds of layer are there
TIMM = {
    "resnet18": "resnet10",
    "resnet18d": "resnet10d",
    "resnet26": "resnet14",
    "resnet26t": "resnet14t",
    "resnet50c": "resnet14c",
    "resnet50d": "resnet14d",
    "resnet50s": "resnet14s",
    "resnext50_32x4d": "resnext14_32x4d",
    "wide_resnet50_2": "wide_resnet14_2",
    "seresnet18": "seresnet10",
    "seresnet50": "seresnet14",
    "resnetv2_18": "resnetv2_10",
    "resnetv2_18d": "resnetv2_10d",
    "resnetv2_50": "resnetv2_14",
    "resnetv2_50d": "resnetv2_14d",
}
BY_NAME = {"resnetaa50": "resnetaa14", "resnetblur18": "resnetblur10", "resnetblur50": "resnetblur14"}
TORCHVISION = {
    "resnet18": (BasicBlock, {}, "resnet10"),
    "resnet50": (Bottleneck, {}, "resnet14"),
    "resnext": (Bottleneck, {"groups": 32, "width_per_group": 8}, "resnext14_32x8d"),
    "wide": (Bottleneck, {"width_per_group": 128}, "wide_resnet14_2"),
}


def assert_equal(theirs: nn.Module, variant: str | None, expected: str, channels: int = 3, size: int = 96) -> None:
    found = find_weights(FILE, dict(theirs.state_dict()), variant)
    assert found.variant.name == expected
    ours = build_network(found, FILE)
    images = torch.randn(2, channels, size, size)
    wanted, actual = logits_of(theirs, images), logits_of(ours, images)
    assert float((wanted - actual).abs().max()) <= TELLING * float(wanted.std())


@pytest.mark.parametrize("name", TIMM)
def test_timms_network_is_told_from_its_weights_and_equal(name: str) -> None:
    assert_equal(seeded(timm.create_model(name, num_classes=7, layers=SHALLOW)), None, TIMM[name])


@pytest.mark.parametrize("name", BY_NAME)
def test_antialiasing_is_not_in_the_weights_but_has_a_name(name: str) -> None:
    theirs = seeded(timm.create_model(name, num_classes=7, layers=SHALLOW))
    assert find_weights(FILE, dict(theirs.state_dict())).variant.name == BY_NAME[name].replace("aa", "").replace("blur", "")
    assert_equal(theirs, BY_NAME[name], BY_NAME[name])


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_network_is_told_from_its_weights_and_equal(name: str) -> None:
    block, options, expected = TORCHVISION[name]
    assert_equal(seeded(ResNet(block, list(SHALLOW), num_classes=5, **options)), None, expected)


@pytest.mark.parametrize("layer", ["basic", "bottleneck"])
def test_transformers_network_is_told_from_its_weights_and_equal(layer: str) -> None:
    widths = [64, 128, 256, 512] if layer == "basic" else [256, 512, 1024, 2048]
    config = ResNetConfig(layer_type=layer, depths=[1, 1, 1, 1], hidden_sizes=widths)
    config.num_labels = 6
    assert_equal(seeded(ResNetForImageClassification(config)), None, "resnet10" if layer == "basic" else "resnet14")


def test_the_papers_place_of_the_stride_is_a_variant() -> None:
    config = ResNetConfig(depths=[1, 1, 1, 1], downsample_in_bottleneck=True)
    config.num_labels = 6
    assert_equal(seeded(ResNetForImageClassification(config)), "resnet14-v1", "resnet14-v1")


@pytest.mark.parametrize("channels", [1, 4])
def test_any_number_of_channels(channels: int) -> None:
    assert_equal(
        seeded(timm.create_model("resnet18", in_chans=channels, num_classes=7, layers=SHALLOW), channels=channels),
        None,
        "resnet10",
        channels,
    )


@pytest.mark.parametrize("size", [32, 96, 129])
def test_any_input_size(size: int) -> None:
    assert_equal(seeded(timm.create_model("resnet18d", num_classes=7, layers=SHALLOW)), None, "resnet10d", size=size)


def test_a_cifar_stem_before_imagenets_stages() -> None:
    theirs = ResNet(BasicBlock, list(SHALLOW), num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    assert_equal(seeded(theirs, size=32), None, "resnet10_cifar", size=32)


@pytest.mark.parametrize(
    ("head", "hidden"),
    [
        (nn.Sequential(nn.Dropout(0.5), nn.Linear(512, 7)), ()),
        (nn.Sequential(nn.Linear(512, 40), nn.ReLU(), nn.Dropout(0.5), nn.Linear(40, 7)), (40,)),
        (nn.Sequential(nn.Linear(512, 40), nn.Linear(40, 7)), ()),
        (nn.Linear(512, 7, bias=False), ()),
    ],
)
def test_heads_of_other_forms(head: nn.Module, hidden: tuple[int, ...]) -> None:
    theirs = ResNet(BasicBlock, list(SHALLOW))
    theirs.fc = head
    assert find_weights(FILE, dict(theirs.state_dict())).variant.head == hidden
    assert_equal(seeded(theirs), None, "resnet10")


def test_names_are_unique_and_every_row_is_told_apart_or_has_a_reason() -> None:
    alike: dict[object, list[str]] = {}
    for row in VARIANTS.values():
        alike.setdefault(row.architecture(), []).append(row.name)
    assert [names for names in alike.values() if len(names) > 1] == []
