"""The ensemble view (Veit et al., arXiv 1605.06431): 2^n paths, what each length contributes, and what lesions do."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.walk import bypass, changes_shape, plain_step, walk
from resnet_models.blocks import Block
from resnet_models.network import ResNet

SAMPLES = 6
DRAWS = 5


@dataclass(frozen=True)
class PathGradients:
    """By path length 0..n: share of all 2^n paths, mean gradient norm of one path, and share of the gradient of all."""

    paths: list[float]
    norms: list[float]
    contributions: list[float]


def path_gradients(network: ResNet, images: Tensor, labels: Tensor, rng: random.Random) -> PathGradients:
    """Sample paths of every length (Veit et al., section 4.3): forward as usual, backward through the chosen branches only."""
    count = len(network.blocks())
    norms = []
    for length in range(count + 1):
        draws = SAMPLES if 0 < length < count else 1
        norms.append(sum(_path_norm(network, images, labels, set(rng.sample(range(count), length))) for _ in range(draws)) / draws)
    weights = [comb(count, length) / 2**count for length in range(count + 1)]
    products = [weight * norm for weight, norm in zip(weights, norms, strict=True)]
    total = sum(products) or 1.0
    return PathGradients(weights, norms, [product / total for product in products])


def _path_norm(network: ResNet, images: Tensor, labels: Tensor, through: set[int]) -> float:
    """Norm of the gradient at the first block's input along the path that takes the branches `through` and skips the others."""
    entered: list[Tensor] = []

    def step(index: int, block: Block, x: Tensor) -> Tensor:
        if index == 0:
            x = x.detach().requires_grad_()
            entered.append(x)
        branch, skip = block.residual(x), block.shortcut(x)
        kept = branch + skip.detach() if index in through else branch.detach() + skip
        return torch.relu(kept)

    loss = F.cross_entropy(walk(network.eval(), images, step), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, entered)
    return float(gradient.flatten(1).norm(dim=1).mean())


@dataclass(frozen=True)
class Lesions:
    """Test errors in percent: untouched; each block deleted; k random blocks deleted; k random swaps (mean over draws)."""

    whole: float
    single: list[float]
    transitions: list[int]
    deleted: list[tuple[int, float, float, float]]
    swapped: list[tuple[int, float, float, float]]


def lesions(network: ResNet, images: Tensor, labels: Tensor, rng: random.Random) -> Lesions:
    """Delete and swap blocks at test time; (k, mean, least, greatest) for k = 1 ... n/2, five draws each."""
    count = len(network.blocks())

    def error(gone: Sequence[int] = (), order: Sequence[int] | None = None) -> float:
        return _error(network, images, labels, _deleting(set(gone)), order)

    half = range(1, count // 2 + 1)
    return Lesions(
        error(),
        [error([index]) for index in range(count)],
        [index for index in range(count) if changes_shape(network, index)],
        [(k, *_spread([error(rng.sample(range(count), k)) for _ in range(DRAWS)])) for k in half],
        [(k, *_spread([error(order=_swapped(network, k, rng)) for _ in range(DRAWS)])) for k in half],
    )


def _deleting(gone: set[int]) -> Callable[[int, Block, Tensor], Tensor]:
    return lambda index, block, x: bypass(block, x) if index in gone else plain_step(index, block, x)


def _error(
    network: ResNet, images: Tensor, labels: Tensor, step: Callable[[int, Block, Tensor], Tensor], order: Sequence[int] | None
) -> float:
    with torch.inference_mode():
        wrong = sum(
            int((walk(network.eval(), x, step, order).argmax(1) != y).sum())
            for x, y in zip(torch.split(images, 125), torch.split(labels, 125), strict=True)
        )
    return 100 * wrong / len(labels)


def _swapped(network: ResNet, swaps: int, rng: random.Random) -> list[int]:
    """The order of blocks after `swaps` random swaps of two that take and give the same shape."""
    order: list[int] = list(range(len(network.blocks())))
    groups: list[list[int]] = []
    first = 0
    for stage in network.stages():
        members = [index for index in range(first, first + len(stage)) if not changes_shape(network, index)]
        groups += [members] if len(members) > 1 else []
        first += len(stage)
    for _ in range(swaps):
        a, b = rng.sample(rng.choice(groups), 2)
        order[a], order[b] = order[b], order[a]
    return order


def _spread(values: list[float]) -> tuple[float, float, float]:
    return sum(values) / len(values), min(values), max(values)
