"""The analysis: each measurement against a network whose answer is known, and the report as a whole."""

import random
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from resnet_models.analysis.activations import look, residual_magnitudes
from resnet_models.analysis.ensemble import lesions, path_gradients
from resnet_models.analysis.gradients import gradient_profile
from resnet_models.analysis.walk import walk
from resnet_models.cli import main
from resnet_models.network import ResNet, build


@pytest.fixture
def network() -> ResNet:
    torch.manual_seed(0)
    return build("resnet20").eval()


@pytest.fixture
def material() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)


def silence(network: ResNet) -> None:
    """Make every residual branch put out zero: nothing but the identity paths is left."""
    for block in network.blocks():
        torch.nn.init.zeros_(block.get_submodule("bn2").weight)  # type: ignore[arg-type]  # a parameter


def test_walking_block_by_block_is_the_network(network: ResNet, material: tuple[torch.Tensor, torch.Tensor]) -> None:
    with torch.inference_mode():
        assert torch.allclose(walk(network, material[0]), network(material[0]), atol=1e-5)


def test_without_branches_all_gradient_comes_by_the_identity(network: ResNet, material: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = gradient_profile(network, *material)
    assert min(before.identity_shares) < 0.95
    silence(network)
    after = gradient_profile(network, *material)
    assert after.identity_shares == pytest.approx([1.0] * 9)
    assert residual_magnitudes(network, material[0]) == pytest.approx([0.0] * 9)


def test_the_profile_is_the_gradient(network: ResNet, material: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = material
    profile = gradient_profile(network, images, labels)
    entered = torch.relu(network.bn1(network.conv1(images))).detach().requires_grad_()
    x = entered
    for stage in network.stages():
        x = stage(x)
    loss = torch.nn.functional.cross_entropy(network.fc(x.mean((2, 3))), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, entered)
    assert profile.norms[0] == pytest.approx(float(gradient.flatten(1).norm(dim=1).mean()), rel=1e-4)


def test_a_plain_network_has_no_identity_path(material: tuple[torch.Tensor, torch.Tensor]) -> None:
    profile = gradient_profile(build("plain20"), *material)
    assert len(profile.norms) == 9
    assert profile.identity_shares == []


def test_paths_are_binomial_and_only_the_empty_one_is_left_without_branches(
    network: ResNet, material: tuple[torch.Tensor, torch.Tensor]
) -> None:
    paths = path_gradients(network, *material, random.Random(0))
    assert sum(paths.paths) == pytest.approx(1)
    assert paths.paths[4] == pytest.approx(126 / 512)
    assert sum(paths.contributions) == pytest.approx(1)
    silence(network)
    alone = path_gradients(network, *material, random.Random(0))
    assert alone.contributions[0] == pytest.approx(1)


def test_deleting_blocks_that_do_nothing_changes_nothing(network: ResNet, material: tuple[torch.Tensor, torch.Tensor]) -> None:
    silence(network)
    found = lesions(network, *material, random.Random(0))
    assert found.single == [found.whole] * 9
    assert found.transitions == [3, 6]
    assert [point[0] for point in found.deleted] == [1, 2, 3, 4]


def test_looking_gives_maps_of_each_stage_and_a_map_over_the_image(network: ResNet, material: tuple[torch.Tensor, torch.Tensor]) -> None:
    seen = look(network, material[0][:1])
    assert [tuple(maps.shape) for maps in seen.stages] == [(6, 32, 32), (6, 16, 16), (6, 8, 8)]
    assert tuple(seen.class_map.shape) == (32, 32)
    assert (float(seen.class_map.min()), float(seen.class_map.max())) == (0, 1)


def test_the_report_is_one_file_with_claims_and_verdicts(pretrained: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    result = CliRunner().invoke(main, ["analyze", str(pretrained), "--out", str(out), "--images", "20"])
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert page.count("data:image/png;base64,") == 5
    assert page.count("<dt>claim</dt>") == 4
    assert "No trained plain twin was given" in page
    assert "http" not in page


def test_a_checkpoint_that_is_no_residual_cifar_network_is_refused(pretrained: Path) -> None:
    result = CliRunner().invoke(main, ["analyze", str(pretrained), "--twin", str(pretrained)])
    assert result.exit_code == 1
    assert "twin: is a resnet20; expected plain20" in result.output
