"""Untrained networks: branches and shortcuts against networks whose answer is known, and the claims made of them."""

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from resnet_models.analysis.initialisation import arrivals, branch_profile, read_initialisation, shortcut_profile
from resnet_models.analysis.initialisation_claims import initialisation_claims
from resnet_models.analysis.walk import settled
from resnet_models.branches import begin_as_shortcuts
from resnet_models.cli import main
from resnet_models.errors import DataError
from resnet_models.network import build

IMAGES, LABELS = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1)), torch.arange(8)


def test_a_branch_that_begins_at_zero_has_no_part_of_the_variance() -> None:
    torch.manual_seed(0)
    network = build("resnet20")
    before = branch_profile(network, IMAGES)
    assert all(0 < share < 1 for share in before.shares)
    assert len(before.shares) == 9
    begin_as_shortcuts(network)
    assert branch_profile(network, IMAGES).shares == [0] * 9


def test_normalised_branches_have_the_variance_of_a_normalisation() -> None:
    torch.manual_seed(0)
    assert branch_profile(build("resnet20"), IMAGES).branches == pytest.approx([1.0] * 9, rel=1e-2)


def test_the_gradient_passes_preactivated_shortcuts_as_it_is_and_others_masked() -> None:
    torch.manual_seed(0)
    network = settled(build("resnetv2_32"), IMAGES)
    assert arrivals(network, IMAGES, LABELS) == pytest.approx([1.0] * 4, abs=1e-6)
    torch.manual_seed(0)
    masked = shortcut_profile(build("resnet32"), IMAGES, LABELS)
    assert masked.arrivals == sorted(masked.arrivals)
    assert masked.arrivals[-1] < 0.99
    assert len(masked.shares) == 15


def test_the_command_measures_what_the_claims_are_made_of(tmp_path: Path) -> None:
    out = tmp_path / "initialisation.json"
    arguments = ["initialisation", "--depths", "8,20", "--seeds", "2", "--images", "10", "--out", str(out), "--threads", "1"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    found = read_initialisation(out)
    assert sorted(found.branches) == sorted(found.bare) == ["resnet20", "resnet8", "resnetv2_20", "resnetv2_8"]
    assert sorted(found.shortcuts) == ["resnet20", "resnetv2_20"]
    assert found.branches["resnet20"][0].branches == pytest.approx([1.0] * 9, rel=0.05)
    assert found.bare["resnet20"][0].branches != pytest.approx([1.0] * 9, rel=0.5)
    normalisation, preactivation, share = initialisation_claims(found)
    assert len(normalisation.checks) == 8
    assert preactivation.checks[0].verdict == "holds"
    assert share.checks[0].part.startswith("shortcuts bring a larger share of the whole gradient in resnetv2_20 than in resnet20")
    assert "in resnetv2_20 it arrives by shortcuts alone, past 2 blocks" in result.output
    assert out.with_suffix(".png").stat().st_size > 10_000
    out.write_text("{}")
    with pytest.raises(DataError, match=r"initialisation: .* cannot be read"):
        read_initialisation(out)


@pytest.mark.parametrize("depths", ["20", "56,20", "20,21", "a,b"])
def test_depths_that_no_network_has_are_refused(depths: str) -> None:
    result = CliRunner().invoke(main, ["initialisation", "--depths", depths])
    assert result.exit_code == 2
    assert f"'{depths}'; expected two or more of 8, 20, 32, 44, 56, 110, in rising order" in result.output
