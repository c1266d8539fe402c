"""Shortcut options, pre-activation, and branches that begin at zero or are dropped: what they are, and that testing knows nothing of it."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from resnet_models.branches import begin_as_shortcuts, drop_at_random
from resnet_models.cli import main
from resnet_models.inference import infer_body
from resnet_models.network import ResNet, build, count_parameters
from resnet_models.variants import find_variant


def body(network: ResNet) -> dict[str, torch.Tensor]:
    return {key: value for key, value in network.state_dict().items() if not key.startswith(("fc.", "norm."))}


@pytest.mark.parametrize(
    ("name", "projections", "parameters"),
    [
        ("resnet20", [], 269_722),
        ("resnet20_b", [3, 6], 272_474),  # 16 * 32 + 32 * 64 weights, and their normalisation
        ("resnet20_c", list(range(9)), 272_474 + 3 * (16 * 16 + 32) + 2 * (32 * 32 + 64) + 2 * (64 * 64 + 128)),
    ],
)
def test_an_option_projects_where_the_paper_says(name: str, projections: list[int], parameters: int) -> None:
    network = build(name)
    found = [i for i, block in enumerate(network.blocks()) if block.downsample is not None and list(block.downsample.parameters())]
    assert found == projections
    assert count_parameters(network) == parameters
    assert infer_body(body(network)).name == name


@pytest.mark.parametrize("name", ["resnet8", "resnet8_b", "resnet8_c", "resnetv2_8", "resnetv2_56", "resnet18", "resnet50", "resnet14"])
def test_weights_tell_their_option(name: str) -> None:
    assert infer_body(body(build(name))).name == name


def test_testing_knows_nothing_of_stochastic_depth() -> None:
    torch.manual_seed(0)
    for name in ("resnet8", "resnetv2_8"):
        network, x = build(name), torch.randn(4, 3, 32, 32)
        expected = network.eval()(x)
        drop_at_random(network, 0.5)
        assert torch.equal(network(x), expected)


def test_blocks_are_dropped_as_often_as_the_linear_rule_says() -> None:
    network = build("resnet20")
    drop_at_random(network, 0.5)
    assert [block.survival for block in network.blocks()] == pytest.approx([1 - 0.5 * number / 9 for number in range(1, 10)])
    torch.manual_seed(0)
    block, x = network.blocks()[-1].train(), torch.relu(torch.randn(2, 64, 4, 4))
    with torch.no_grad():
        outputs = [block(x) for _ in range(400)]
        present = torch.relu(block.residual(x) / 0.5 + x)
    dropped = sum(torch.equal(out, x) for out in outputs)
    assert 160 <= dropped <= 240  # half of 400, four standard deviations
    assert sum(torch.allclose(out, present, atol=1e-5) for out in outputs) == 400 - dropped


@pytest.mark.parametrize("name", ["resnet20", "resnetv2_20", "resnet50"])
def test_branches_that_begin_at_zero_leave_the_shortcuts(name: str) -> None:
    network = build(name)
    begin_as_shortcuts(network)
    block = network.blocks()[1].eval()
    first = block.get_submodule("conv1")
    assert isinstance(first, torch.nn.Conv2d)
    x = torch.relu(torch.randn(1, first.in_channels, 8, 8))
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("option", [["--zero-gamma"], ["--stochastic-depth", "0.2"]])
def test_a_plain_network_has_no_branches_to_begin_or_drop(option: list[str], cifar: Path, tmp_path: Path) -> None:
    arguments = ["fit", "plain20", "--data", str(cifar), "--epochs", "1", "--batch", "20", "--out", str(tmp_path / "a.safetensors")]
    result = CliRunner().invoke(main, [*arguments, *option])
    assert result.exit_code == 1
    assert f"{option[0].removeprefix('--')}: plain20 has no shortcuts; expected a residual network" in result.output


def test_a_recipe_with_all_of_it_is_named_and_trains(cifar: Path, tmp_path: Path) -> None:
    from resnet_models.checkpoint import load_checkpoint

    out = tmp_path / "a.safetensors"
    arguments = ["fit", "resnetv2_8", "--data", str(cifar), "--epochs", "1", "--batch", "20", "--out", str(out), "--threads", "1"]
    result = CliRunner().invoke(main, [*arguments, "--zero-gamma", "--stochastic-depth", "0.2"])
    assert result.exit_code == 0, result.output
    info = load_checkpoint(out).info
    assert info.recipe == "short --batch 20 --stochastic-depth 0.2 --zero-gamma"
    assert "fit resnetv2_8 --recipe short --batch 20 --stochastic-depth 0.2 --zero-gamma --epochs 1" in info.source


def test_every_option_has_its_depths() -> None:
    for depth in (8, 20, 32, 44, 56, 110):
        for name in (f"resnet{depth}", f"resnet{depth}_b", f"resnet{depth}_c", f"resnetv2_{depth}"):
            assert find_variant(name).depth == depth
