"""A network walked block by block, so that an analysis can look or interfere at every block's border."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from resnet_models.blocks import Block, PlainBlock
from resnet_models.network import ResNet

Step = Callable[[int, Block, Tensor], Tensor]


def plain_step(_: int, block: Block, x: Tensor) -> Tensor:
    """The block as it is."""
    return block(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def join_and_activate(block: Block, branch: Tensor, skip: Tensor) -> Tensor:
    """What a block makes of F(x) and of what its shortcut gives: their sum and what follows it; a plain block has no sum."""
    return block.finish(branch if isinstance(block, PlainBlock) else branch + skip)


def stem(network: ResNet, images: Tensor) -> Tensor:
    """Normalised FP32 [n, 3, h, w] to the first block's input."""
    return network.enter(images)


def head(network: ResNet, x: Tensor) -> Tensor:
    """The last block's output to logits [n, classes]."""
    return network.classify(network.activate_last(x))


def walk(network: ResNet, images: Tensor, step: Step = plain_step, order: Sequence[int] | None = None) -> Tensor:
    """Normalised FP32 [n, 3, h, w] to logits [n, classes], with `step` in place of each block, in `order` if given."""
    blocks = network.blocks()
    x = stem(network, images)
    for position, index in enumerate(order if order is not None else range(len(blocks))):
        x = step(position, blocks[index], x)
    return head(network, x)


def bypass(block: Block, x: Tensor) -> Tensor:
    """What is left of a block when it is deleted: its shortcut (ReLU changes nothing, x is one's output)."""
    return block.shortcut(x)


def changes_shape(network: ResNet, index: int) -> bool:
    """True for the first block of every stage but the first."""
    first, starts = 0, []
    for stage in network.stages():
        starts.append(first)
        first += len(stage)
    return index in starts[1:]


def settled(network: ResNet, images: Tensor) -> ResNet:
    """A copy with batch statistics of `images`, as training would begin with, in eval mode."""
    found = copy.deepcopy(network)
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        found.train()(images)
    return found.eval()


def without_normalisation(network: ResNet) -> ResNet:
    """A copy whose batch normalisations are gone; weights stay."""
    found = copy.deepcopy(network)
    for parent in list(found.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    return found
