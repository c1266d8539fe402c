"""The network family against torchvision, the reference counts and the paper's structure."""

import pytest
import torch
import torchvision
from resnet_models.errors import UnknownVariantError
from resnet_models.network import build, count_multiply_adds, count_parameters
from resnet_models.variants import VARIANTS, find_variant

# He et al. 2015, Table 1 and section 4.2; torchvision's documentation for the exact counts.
REFERENCE = {
    "resnet18": (11_689_512, 1.814e9),
    "resnet34": (21_797_672, 3.664e9),
    "resnet50": (25_557_032, 4.089e9),
    "resnet101": (44_549_160, 7.801e9),
    "resnet152": (60_192_808, 11.514e9),
    "resnet20": (269_722, 40.6e6),
    "resnet32": (464_154, 68.9e6),
    "resnet44": (658_586, 97.2e6),
    "resnet56": (853_018, 125.5e6),
    "resnet110": (1_727_962, 252.9e6),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_parameters_and_multiply_adds_equal_the_reference(name: str) -> None:
    network = build(name)
    parameters, multiply_adds = REFERENCE[name]
    assert count_parameters(network) == parameters
    assert count_multiply_adds(network) == pytest.approx(multiply_adds, rel=2e-3)


def test_the_thousand_layer_network_has_the_papers_size() -> None:
    assert count_parameters(build("resnet1202")) == 19_421_274  # the paper says 19.4 M


def test_the_thousand_layer_network_runs_forward_and_backward() -> None:
    network = build("resnet1202")
    loss = torch.nn.functional.cross_entropy(network(torch.randn(2, 3, 32, 32)), torch.tensor([1, 2]))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    gradient = network.conv1.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"])
def test_torchvisions_state_dict_loads_and_gives_equal_outputs(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None).eval()
    state = theirs.state_dict()
    for key, value in state.items():  # statistics and scales that are not 0 and 1, so that a mix-up shows
        if key.endswith(("running_mean", "bias")):
            value.normal_(std=0.1)
        elif key.endswith("running_var") or ("bn" in key and key.endswith("weight")):
            value.uniform_(0.5, 1.5)
    ours = build(name).eval()
    assert ours.state_dict().keys() == state.keys()
    ours.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected, actual = theirs(image), ours(image)
    assert torch.allclose(actual, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_the_cifar_depth_counts_weighted_layers() -> None:
    for name in ("resnet20", "resnet56", "resnet110"):
        network = build(name)
        weighted = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
        assert len(weighted) == VARIANTS[name].depth


def test_option_a_subsamples_and_pads_both_sides_with_zeros() -> None:
    block = build("resnet20").blocks()[3]
    x = torch.randn(1, 16, 8, 8)
    shortcut = block.shortcut(x)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert not shortcut[:, :8].any() and not shortcut[:, 24:].any()


@pytest.mark.parametrize("depth", [20, 56])
def test_a_plain_network_is_its_twin_without_the_addition(depth: int) -> None:
    residual, plain = build(f"resnet{depth}").eval(), build(f"plain{depth}").eval()
    assert [(k, v.shape) for k, v in plain.state_dict().items()] == [(k, v.shape) for k, v in residual.state_dict().items()]
    plain.load_state_dict(residual.state_dict())
    x = torch.randn(1, 16, 8, 8)
    with torch.inference_mode():
        for ours, twin in zip(residual.blocks()[:3], plain.blocks()[:3], strict=True):
            assert torch.allclose(ours(x), torch.relu(twin.residual(x) + x))
            assert torch.allclose(twin(x), torch.relu(ours.residual(x)))


def test_an_unknown_variant_names_the_known_ones() -> None:
    with pytest.raises(UnknownVariantError, match="variant: 'resnet21' is unknown; expected one of resnet18, "):
        find_variant("resnet21")
