"""Lesions at test time (Veit et al., arXiv 1605.06431, section 4): blocks deleted, several deleted, blocks in another order."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from resnet_models.analysis.walk import Step, bypass, changes_shape, plain_step, walk
from resnet_models.blocks import Block
from resnet_models.network import ResNet
from resnet_models.statistics import rank_correlation

BATCH = 125


@dataclass(frozen=True)
class Lesions:
    """Test errors in percent.

    Untouched; each block deleted; k random blocks deleted (k, error of each draw); reordered (Kendall's tau of the new order with the
    old, error). `transitions`: the blocks that change the resolution.
    """

    whole: float
    single: list[float]
    transitions: list[int]
    deleted: list[tuple[int, list[float]]]
    reordered: list[tuple[float, float]]

    @property
    def inside(self) -> list[float]:
        """Errors with one block deleted, for the blocks inside a stage."""
        return [error for index, error in enumerate(self.single) if index not in self.transitions]

    @property
    def at_transitions(self) -> list[float]:
        """Errors with one block deleted, for those that change the resolution."""
        return [self.single[index] for index in self.transitions]


@dataclass(frozen=True)
class LesionPlan:
    """How much is tried: draws for each number of deleted blocks, draws for each number of swaps, the seed of both."""

    draws: int
    seed: int


def lesions(network: ResNet, images: Tensor, labels: Tensor, plan: LesionPlan, on_step: Callable[[], None] = lambda: None) -> Lesions:
    """Delete and reorder blocks; normalised FP32 [n, 3, h, w], eval mode, nothing retrained."""
    count, rng = len(network.blocks()), random.Random(plan.seed)  # noqa: S311  # sampling
    numbers = sorted({round(count * share / 8) for share in range(1, 5)} | {1})

    def error(gone: Sequence[int] = (), order: Sequence[int] | None = None) -> float:
        on_step()
        return error_of(network, images, labels, _deleting(set(gone)), order)

    orders = [swapped(network, swaps, rng) for swaps in numbers for _ in range(plan.draws)]
    return Lesions(
        error(),
        [error([index]) for index in range(count)],
        [index for index in range(count) if changes_shape(network, index)],
        [(k, [error(rng.sample(range(count), k)) for _ in range(plan.draws)]) for k in numbers],
        sorted(((rank_correlation(range(count), order), error(order=order)) for order in orders), reverse=True),
    )


def _deleting(gone: set[int]) -> Step:
    def step(index: int, block: Block, x: Tensor) -> Tensor:
        return bypass(block, x) if index in gone else plain_step(index, block, x)

    return step


def error_of(network: ResNet, images: Tensor, labels: Tensor, step: Step, order: Sequence[int] | None = None) -> float:
    """Top-1 error in percent of the network walked with `step`."""
    with torch.inference_mode():
        batches = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
        wrong = sum(int((walk(network.eval(), x, step, order).argmax(1) != y).sum()) for x, y in batches)
    return 100 * wrong / len(labels)


def swapped(network: ResNet, swaps: int, rng: random.Random) -> list[int]:
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
