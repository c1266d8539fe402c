"""What arrives at every block of the gradient: how large it is, which way it came, and whether it still says anything.

Norms: He et al. (arXiv 1512.03385, section 4.1) say that batch normalisation keeps them healthy in plain networks, too; Yang et al.
(arXiv 1902.08129) show that it makes them grow towards the input with depth. The identity's share: He et al. (arXiv 1603.05027, eq. 5) for
networks whose blocks end with the addition. Correlation: Balduzzi et al. (arXiv 1702.08591): what plain networks lose with depth is
not the gradient's size but its correlation between neighbouring inputs.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.walk import head, join_and_activate, stem, walk
from resnet_models.blocks import Block, PlainBlock
from resnet_models.network import ResNet


@dataclass(frozen=True)
class GradientProfile:
    """Per block, first to last: norm of dL/dx at its input (mean over images), and the shortcut's share of it.

    The share is the projection <g_shortcut, g> / <g, g>; with the residual branch's it adds up to 1. Empty for a plain network, which
    has no such path.
    """

    norms: list[float]
    identity_shares: list[float]

    @property
    def growth(self) -> float:
        """Norm at the first block over norm at the last: above 1 the gradient grows towards the input, below 1 it shrinks."""
        return self.norms[0] / self.norms[-1]


def gradient_profile(network: ResNet, images: Tensor, labels: Tensor, *, batch_statistics: bool = False) -> GradientProfile:
    """Backpropagate the cross-entropy of normalised FP32 [n, 3, h, w].

    With `batch_statistics` normalisation works as in training, its own backward terms included; else with the stored statistics.
    """
    network = copy.deepcopy(network).train(batch_statistics)
    taps: list[tuple[Tensor, Tensor, Tensor]] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        x = x.clone()
        by_shortcut, by_branch = x.clone(), x.clone()
        for tensor in (x, by_shortcut, by_branch):
            tensor.retain_grad()
        taps.append((x, by_shortcut, by_branch))
        return join_and_activate(block, block.residual(by_branch), block.shortcut(by_shortcut))

    F.cross_entropy(walk(network, images, step), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]  # torch's own
    norms = [_mean_norm(x.grad) for x, _, _ in taps]
    if any(isinstance(block, PlainBlock) for block in network.blocks()):
        return GradientProfile(norms, [])
    return GradientProfile(norms, [_share(shortcut.grad, x.grad) for x, shortcut, _ in taps])


def gradient_correlation(network: ResNet, images: Tensor, steps: int, seed: int) -> list[float]:
    """By distance 0..steps-1 along the line between two images: the correlation of the gradients at the first block's input.

    Normalised FP32 [2 * pairs, 3, h, w]; between the two of each pair lie `steps` inputs. The output is a fixed random sum of the
    logits, so that labels play no part; eval mode. Mean over pairs and positions (Balduzzi et al., section 2).
    """
    network.eval()
    weights = torch.randn(network.fc.out_features, generator=torch.Generator().manual_seed(seed))
    places = torch.linspace(0, 1, steps).view(-1, 1, 1, 1)
    found = [
        _correlations(_line_gradients(network, one + places * (other - one), weights))
        for one, other in images.view(-1, 2, *images.shape[1:])
    ]
    return [float(value) for value in torch.stack(found).mean(0)]


def _line_gradients(network: ResNet, line: Tensor, weights: Tensor) -> Tensor:
    """FP32 [steps, features] of the steps' own gradients."""
    with torch.no_grad():
        entered = stem(network, line)
    entered.requires_grad_()
    x = entered
    for block in network.blocks():
        x = block(x)
    (gradient,) = torch.autograd.grad((head(network, x) @ weights).sum(), entered)
    return gradient.flatten(1)


def _correlations(gradients: Tensor) -> Tensor:
    """FP32 [steps]: mean correlation of two gradients by how far apart they are."""
    centred = gradients - gradients.mean(1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-30)
    products = unit @ unit.T
    return torch.stack([products.diagonal(lag).mean() for lag in range(len(unit))])


def _mean_norm(gradient: Tensor | None) -> float:
    return 0.0 if gradient is None else float(gradient.flatten(1).norm(dim=1).mean())


def _share(part: Tensor | None, whole: Tensor | None) -> float:
    if part is None or whole is None:
        return 0.0
    total = float((whole * whole).sum())
    return float((part * whole).sum()) / total if total else 0.0
