"""The analysis: each measurement against a network whose answer is known, and the report as a whole."""

import random
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from resnet_models.analysis.activations import look
from resnet_models.analysis.checks import Check, Claim, judge
from resnet_models.analysis.gradients import gradient_correlation, gradient_profile
from resnet_models.analysis.landscape import Landscape, LandscapePlan, direction, loss_landscape, measure_landscapes, read_landscapes
from resnet_models.analysis.lesions import LesionPlan, lesions, measure_lesions, read_lesions, swapped
from resnet_models.analysis.paths import mean_length, path_gradient, path_samples, path_sums
from resnet_models.analysis.responses import layer_responses
from resnet_models.analysis.study import read_study
from resnet_models.analysis.walk import settled, stem, walk, without_normalisation
from resnet_models.cli import main
from resnet_models.errors import DataError
from resnet_models.network import ResNet, build
from resnet_models.statistics import rank_correlation
from resnet_models.variants import find_variant

Material = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture
def network() -> ResNet:
    torch.manual_seed(0)
    return build("resnet20").eval()


@pytest.fixture
def material() -> Material:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(8, 3, 32, 32, generator=generator), torch.arange(8)


def silence(network: ResNet) -> None:
    """Make every residual branch put out zero: nothing but the identity paths is left."""
    for block in network.blocks():
        torch.nn.init.zeros_(block.get_submodule("bn2").weight)  # type: ignore[arg-type]  # a parameter


def test_walking_block_by_block_is_the_network(network: ResNet, material: Material) -> None:
    with torch.inference_mode():
        assert torch.allclose(walk(network, material[0]), network(material[0]), atol=1e-5)


def test_without_branches_all_gradient_comes_by_the_identity(network: ResNet, material: Material) -> None:
    before = gradient_profile(network, *material)
    assert min(before.identity_shares) < 0.95
    silence(network)
    after = gradient_profile(network, *material)
    assert after.identity_shares == pytest.approx([1.0] * 9)
    assert layer_responses(network, material[0]).ratios == pytest.approx([0.0] * 9)


def gradient_at_the_first_block(network: ResNet, material: Material) -> torch.Tensor:
    entered = stem(network, material[0]).detach().requires_grad_()
    x = entered
    for block in network.blocks():
        x = block(x)
    loss = torch.nn.functional.cross_entropy(network.fc(x.mean((2, 3))), material[1], reduction="sum")
    (gradient,) = torch.autograd.grad(loss, entered)
    return gradient


@pytest.mark.parametrize("batch_statistics", [False, True])
def test_the_profile_is_the_gradient_and_leaves_the_network_alone(batch_statistics: bool, network: ResNet, material: Material) -> None:
    before = {key: value.clone() for key, value in network.state_dict().items()}
    profile = gradient_profile(network, *material, batch_statistics=batch_statistics)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    expected = gradient_at_the_first_block(network.train(batch_statistics), material)
    assert profile.norms[0] == pytest.approx(float(expected.flatten(1).norm(dim=1).mean()), rel=1e-3)
    assert profile.growth == pytest.approx(profile.norms[0] / profile.norms[8])


def test_a_plain_network_has_no_identity_path(material: Material) -> None:
    profile = gradient_profile(build("plain20"), *material)
    assert len(profile.norms) == 9
    assert profile.identity_shares == []


def test_without_normalisation_nothing_normalises_and_the_original_still_does(network: ResNet) -> None:
    bare = without_normalisation(network)
    assert not [module for module in bare.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len([module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]) == 19
    assert torch.equal(bare.conv1.weight, network.conv1.weight)


def test_gradients_of_a_linear_network_are_the_same_everywhere(network: ResNet, material: Material) -> None:
    silence(network)
    torch.nn.init.constant_(network.bn1.bias, 100.0)  # every ReLU then lets everything through: the network is linear
    assert gradient_correlation(network, material[0][:4], 5, 1) == pytest.approx([1.0] * 5, abs=1e-4)
    torch.manual_seed(0)
    plain = gradient_correlation(settled(build("plain20"), material[0]), material[0][:4], 5, 1)
    assert plain[0] == pytest.approx(1)
    assert max(plain[1:]) < 0.9


def test_the_exact_split_of_paths_equals_all_of_them_one_by_one(material: Material) -> None:
    torch.manual_seed(0)
    network = settled(
        ResNet(replace(find_variant("resnet20"), stages=(2, 2, 1))), material[0]
    ).double()  # paths cancel: in fp32 what is left of them would be compared to few digits
    material = material[0][:2].double(), material[1][:2]
    found = path_sums(network, *material)
    by_length = [torch.zeros(2, 16, 32, 32, dtype=torch.float64) for _ in range(6)]
    for length in range(6):
        for through in combinations(range(5), length):
            by_length[length] += path_gradient(network, *material, set(through))
    whole = torch.stack(by_length).sum(0)
    assert torch.allclose(whole, gradient_at_the_first_block(network, material), atol=1e-9 * float(whole.abs().max()))
    for length, part in enumerate(by_length):
        share = float(((part * whole).flatten(1).sum(1) / (whole * whole).flatten(1).sum(1)).mean())
        assert found.shares[length] == pytest.approx(share, abs=1e-9)
    assert sum(found.shares) == pytest.approx(1, abs=1e-9)


def test_only_the_empty_path_is_left_without_branches(network: ResNet, material: Material) -> None:
    sampled = path_samples(network, *material, random.Random(0), 2)
    assert len(sampled.norms) == 2
    assert [sum(shares) for shares in sampled.contributions()] == pytest.approx([1, 1])
    silence(network)
    assert path_sums(network, *material).shares == pytest.approx([1] + [0] * 9, abs=1e-6)
    alone = path_samples(network, *material, random.Random(0), 2)
    assert alone.mean_length().value == pytest.approx(0)
    assert mean_length([0.25, 0.5, 0.25]) == 1


def test_deleting_blocks_that_do_nothing_changes_nothing(network: ResNet, material: Material) -> None:
    silence(network)
    found = lesions(network, *material, LesionPlan(draws=2, seed=0))
    assert found.single == [found.whole] * 9
    assert found.transitions == [3, 6]
    assert [(k, len(errors)) for k, errors in found.deleted] == [(1, 2), (2, 2), (3, 2), (4, 2)]
    assert {error for _, error in found.reordered} == {found.whole}
    assert [tau for tau, _ in found.reordered] == sorted((tau for tau, _ in found.reordered), reverse=True)


def test_lesions_and_landscapes_that_were_interrupted_end_the_same(pretrained: Path, tmp_path: Path) -> None:
    plan, whole, parts = LesionPlan(1, 1, 10), tmp_path / "whole.json", tmp_path / "parts.json"
    measured = measure_lesions([pretrained], plan, whole, lambda _: None)

    def interrupt(text: str) -> None:
        if "7 of" in text or "row 2" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure_lesions([pretrained], plan, parts, interrupt)
    assert read_lesions(parts) == {}
    seen: list[str] = []
    assert measure_lesions([pretrained], plan, parts, seen.append) == measured
    assert seen[0] == "resnet20: 6 of 18 lesions ..."
    with pytest.raises(DataError, match="expected LesionPlan"):
        measure_lesions([pretrained], replace(plan, draws=2), parts, seen.append)
    surface = LandscapePlan(3, 0.5, 10, 1)
    drawn = measure_landscapes([pretrained], surface, tmp_path / "a.json", lambda _: None)
    with pytest.raises(KeyboardInterrupt):
        measure_landscapes([pretrained], surface, tmp_path / "b.json", interrupt)
    assert read_landscapes(tmp_path / "b.json") == {}
    measure_landscapes([pretrained], surface, tmp_path / "b.json", lambda _: None)
    assert read_landscapes(tmp_path / "a.json") == read_landscapes(tmp_path / "b.json")
    assert drawn["resnet20"].centre == pytest.approx(read_landscapes(tmp_path / "a.json")["resnet20"].centre, rel=1e-4)


def test_bf16_moves_with_the_weights(network: ResNet, material: Material) -> None:
    exact, fast = (loss_landscape(network, *material, LandscapePlan(3, 1.0, 8, 0, kind)) for kind in ("fp32", "bf16"))
    assert [one for row in fast.losses for one in row] == pytest.approx([one for row in exact.losses for one in row], rel=0.1)
    assert len({round(loss, 3) for row in exact.losses for loss in row}) == 9


def test_reordering_keeps_every_block_and_the_transitions_in_place(network: ResNet) -> None:
    order = swapped(network, 5, random.Random(1))
    assert sorted(order) == list(range(9))
    assert (order[3], order[6]) == (3, 6)
    assert rank_correlation(range(9), order) < 1


def test_responses_are_the_deviations_after_normalisation(network: ResNet, material: Material) -> None:
    found = layer_responses(network, material[0])
    with torch.inference_mode():
        assert found.layers[0] == pytest.approx(float(network.bn1(network.conv1(material[0])).std()))
    assert (len(found.layers), len(found.ratios)) == (19, 9)


def test_a_direction_has_each_filters_norm_and_leaves_normalisation_alone(network: ResNet) -> None:
    drawn = direction(network, torch.Generator().manual_seed(0))
    for (name, weight), moved in zip(network.named_parameters(), drawn, strict=True):
        if weight.dim() < 2:
            assert not moved.any(), name
        else:
            assert torch.allclose(moved.flatten(1).norm(dim=1), weight.flatten(1).norm(dim=1), rtol=1e-4)


def test_the_centre_of_a_landscape_is_the_networks_loss(network: ResNet, material: Material) -> None:
    found = loss_landscape(network, *material, LandscapePlan(3, 0.5, 8, 0))
    with torch.inference_mode():
        assert found.centre == pytest.approx(float(torch.nn.functional.cross_entropy(network(material[0]), material[1])), rel=1e-4)
    assert found.offsets == [-0.5, 0, 0.5]


def test_a_bowl_is_convex_and_a_saddle_is_not() -> None:
    offsets = [x / 4 for x in range(-4, 5)]
    bowl = Landscape(offsets, [[2.718 ** (x * x + y * y) - 1 for y in offsets] for x in offsets], 1)
    saddle = Landscape(offsets, [[2.718 ** (1 + x * x - y * y) - 1 for y in offsets] for x in offsets], 1)
    assert (bowl.roughness(), saddle.roughness()) == (0, 1)
    assert bowl.basin() > saddle.basin() > 0


def test_a_verdict_is_of_the_whole_interval() -> None:
    assert [judge(low, high, 0) for low, high in ((1, 2), (-2, -1), (-1, 1))] == ["holds", "does not hold", "not decided"]
    assert judge(1, 2, 3, above=False) == "holds"
    checks = [Check("part", "measured", "bound", verdict) for verdict in ("holds", "does not hold", "not decided")]
    assert Claim("", "", "", tuple(checks[:1])).overall == "holds"
    assert Claim("", "", "", tuple(checks)).overall == "holds in part"
    assert Claim("", "", "", tuple(checks[1:])).overall == "does not hold"
    assert Claim("", "", "", tuple(checks[2:])).overall == "not decided"


def test_looking_gives_maps_of_each_stage_and_a_map_over_the_image(network: ResNet, material: Material) -> None:
    seen = look(network, material[0][:1])
    assert [tuple(maps.shape) for maps in seen.stages] == [(6, 32, 32), (6, 16, 16), (6, 8, 8)]
    assert tuple(seen.class_map.shape) == (32, 32)
    assert (float(seen.class_map.min()), float(seen.class_map.max())) == (0, 1)


def test_a_report_with_landscapes_is_one_file_with_a_verdict_on_each_part(pretrained: Path, tmp_path: Path) -> None:
    twin, out, planes = pretrained.with_name("plain20.safetensors"), tmp_path / "report.html", tmp_path / "landscapes.json"
    drawn = ["landscape", str(pretrained), str(twin), "--steps", "3", "--images", "10", "--out", str(planes)]
    result = CliRunner().invoke(main, drawn)
    assert result.exit_code == 0, result.output
    assert planes.with_suffix(".png").stat().st_size > 10_000
    assert set(read_landscapes(planes)) == {"resnet20", "plain20"}
    other = CliRunner().invoke(main, [*drawn, "--seed", "2"])
    assert other.exit_code == 1
    assert "expected LandscapePlan(steps=3, reach=1.0, images=10, seed=2, precision='fp32'), or another --out" in other.output
    hurt = tmp_path / "lesions.json"
    result = CliRunner().invoke(main, ["lesions", str(pretrained), str(twin), "--draws", "1", "--images", "10", "--out", str(hurt)])
    assert result.exit_code == 0, result.output
    options = ["--twin", str(twin), "--out", str(out), "--images", "20", "--landscapes", str(planes), "--lesions", str(hurt)]
    result = CliRunner().invoke(main, ["analyze", str(pretrained), *options])
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert "Lesions of resnet20, 10 images" in page
    assert page.count("data:image/png;base64,") == 7
    assert page.count("<th>part</th>") == 6
    assert "http" not in page
    study = read_study(out.with_suffix(".json"))
    assert (study.name, study.twin, len(study.sums.shares)) == ("resnet20", "plain20", 10)


def test_a_study_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(DataError, match=r"study: .*a\.json cannot be read"):
        read_study(tmp_path / "a.json")


def test_a_checkpoint_that_is_no_residual_cifar_network_is_refused(pretrained: Path) -> None:
    result = CliRunner().invoke(main, ["analyze", str(pretrained), "--twin", str(pretrained)])
    assert result.exit_code == 1
    assert "twin: is a resnet20; expected plain20" in result.output
    result = CliRunner().invoke(main, ["landscape", str(pretrained), "--steps", "4"])
    assert result.exit_code == 2
    assert "4; expected an odd number" in result.output
