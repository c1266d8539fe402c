"""The paths of a residual network (Veit et al., arXiv 1605.06431, section 5): how the gradient splits by number of branches passed.

Backward through a block the gradient goes two ways: through the shortcut, or through the residual branch. Over n blocks that makes
2^n paths; those through k branches are C(n, k). Their summed gradient is carried from the last block to the first, split by k:

    g_k <- shortcut'(m * g_k) + branch'(m * g_{k-1})        m: where the ReLU after the addition is open

which is exact for all 2^n paths at the cost of n^2 / 2 block backward passes. A single path's gradient, as Veit et al. sample it, passes
the branches of one set only.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.walk import join_and_activate, walk
from resnet_models.blocks import Block
from resnet_models.network import ResNet
from resnet_models.statistics import Interval, mean_interval


@dataclass(frozen=True)
class PathSums:
    """By number of branches 0..n, mean over images, at the first block's input.

    `shares`: projection of the summed gradient of all paths of that length on the whole gradient (they add up to 1); `norms`: that
    sum's norm over the whole gradient's norm.
    """

    shares: list[float]
    norms: list[float]


@dataclass(frozen=True)
class PathSamples:
    """`norms`: for each draw, by number of branches 0..n, the norm of one sampled path's gradient at the first block's input."""

    norms: list[list[float]]

    def of_length(self) -> list[Interval]:
        """By number of branches: mean over draws with its interval."""
        return [mean_interval(list(drawn)) for drawn in zip(*self.norms, strict=True)]

    def contributions(self) -> list[list[float]]:
        """For each draw the share of each length: number of paths times norm (Veit et al., Fig. 6c), which leaves out that paths cancel."""
        return [_shares([comb(len(drawn) - 1, length) * norm for length, norm in enumerate(drawn)]) for drawn in self.norms]

    def mean_length(self) -> Interval:
        """Mean number of branches, weighted by contribution, over draws with its interval."""
        return mean_interval([mean_length(shares) for shares in self.contributions()])


def _shares(products: Sequence[float]) -> list[float]:
    total = sum(products) or 1.0
    return [product / total for product in products]


def mean_length(shares: Sequence[float]) -> float:
    """The mean number of branches under shares that add up to 1."""
    return sum(length * share for length, share in enumerate(shares))


def path_sums(network: ResNet, images: Tensor, labels: Tensor) -> PathSums:
    """Split the gradient of the cross-entropy of normalised FP32 [n, 3, h, w], in eval mode, exactly."""
    taps: list[tuple[Block, Tensor, Tensor, Tensor, Tensor]] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        branch, skip = block.residual(x), block.shortcut(x).clone()  # an identity would be x itself, and its gradient both ways' sum
        out = join_and_activate(block, branch, skip)
        taps.append((block, x, branch, skip, out))
        return out

    logits = walk(network.eval(), images, step)
    loss = F.cross_entropy(logits, labels, reduction="sum")
    (arriving,) = torch.autograd.grad(loss, taps[-1][4])
    parts = [arriving]
    for _, x, branch, skip, out in reversed(taps):
        parts = _before(parts, x, branch, skip, out)
    return _summed(parts)


def _before(parts: Sequence[Tensor], x: Tensor, branch: Tensor, skip: Tensor, out: Tensor) -> list[Tensor]:
    """The split gradient at a block's input, from the one at its output."""

    def through(target: Tensor, gradient: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(target, x, gradient, retain_graph=True)
        return found

    joined = [torch.autograd.grad(out, (branch, skip), part, retain_graph=True) for part in parts]
    by_skip = [through(skip, to_skip) for _, to_skip in joined]
    by_branch = [through(branch, to_branch) for to_branch, _ in joined]
    zero = torch.zeros_like(x)
    return [kept + passed for kept, passed in zip([*by_skip, zero], [zero, *by_branch], strict=True)]


def _summed(parts: Sequence[Tensor]) -> PathSums:
    flat = [part.flatten(1) for part in parts]
    whole = torch.stack(flat).sum(0)
    squared = (whole * whole).sum(1).clamp_min(1e-30)
    shares = [float(((part * whole).sum(1) / squared).mean()) for part in flat]
    return PathSums(shares, [float((part.norm(dim=1) / squared.sqrt()).mean()) for part in flat])


def path_samples(network: ResNet, images: Tensor, labels: Tensor, rng: random.Random, draws: int) -> PathSamples:
    """Sample `draws` paths of every length (Veit et al., section 5): forward as usual, backward along one path."""
    count = len(network.blocks())

    def norm(length: int) -> float:
        return path_norm(network, images, labels, set(rng.sample(range(count), length)))

    ends = norm(0), norm(count)  # there is but one path through none and one through all
    return PathSamples([[ends[0], *(norm(length) for length in range(1, count)), ends[1]] for _ in range(draws)])


def path_gradient(network: ResNet, images: Tensor, labels: Tensor, through: set[int]) -> Tensor:
    """FP32 [n, c, h, w]: the gradient at the first block's input along the path through the branches `through` and no other."""
    entered: list[Tensor] = []

    def step(index: int, block: Block, x: Tensor) -> Tensor:
        if index == 0:
            x = x.detach().requires_grad_()
            entered.append(x)
        branch, skip = block.residual(x), block.shortcut(x)
        return join_and_activate(block, branch, skip.detach()) if index in through else join_and_activate(block, branch.detach(), skip)

    loss = F.cross_entropy(walk(network.eval(), images, step), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, entered)
    return gradient


def path_norm(network: ResNet, images: Tensor, labels: Tensor, through: set[int]) -> float:
    """Mean over images of the norm of `path_gradient`."""
    return float(path_gradient(network, images, labels, through).flatten(1).norm(dim=1).mean())
