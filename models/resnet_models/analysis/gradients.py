"""The gradient highway (He et al., arXiv 1512.03385, section 3.1; arXiv 1603.05027, eq. 5).

dL/dx = dL/dy (1 + dF/dx): the 1 is the identity path. Measured is what arrives at every block's input, and how much of
it came by that path.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.walk import walk
from resnet_models.blocks import Block, PlainBlock
from resnet_models.network import ResNet


@dataclass(frozen=True)
class GradientProfile:
    """Per block, first to last: norm of dL/dx at its input (mean over images), and the identity path's share of it.

    The share is the projection <g_identity, g> / <g, g>; with the residual branch's it adds up to 1. Empty for a plain
    network, which has no such path.
    """

    norms: list[float]
    identity_shares: list[float]


def gradient_profile(network: ResNet, images: Tensor, labels: Tensor) -> GradientProfile:
    """Backpropagate the cross-entropy of normalised FP32 [n, 3, h, w] in eval mode."""
    taps: list[tuple[Tensor, Tensor, Tensor]] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        x = x.clone()
        by_identity, by_branch = x.clone(), x.clone()
        for tensor in (x, by_identity, by_branch):
            tensor.retain_grad()
        taps.append((x, by_identity, by_branch))
        return torch.relu(block.join(block.residual(by_branch), by_identity))

    network.eval()
    F.cross_entropy(walk(network, images, step), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]  # torch's own
    norms = [_mean_norm(x.grad) for x, _, _ in taps]
    if any(isinstance(block, PlainBlock) for block in network.blocks()):
        return GradientProfile(norms, [])
    return GradientProfile(norms, [_share(identity.grad, x.grad) for x, identity, _ in taps])


def _mean_norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.flatten(1).norm(dim=1).mean())


def _share(part: Tensor | None, whole: Tensor | None) -> float:
    if part is None or whole is None:
        return 0.0
    total = float((whole * whole).sum())
    return float((part * whole).sum()) / total if total else 0.0
