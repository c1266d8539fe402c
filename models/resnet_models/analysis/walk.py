"""A network walked block by block, so that an analysis can look or interfere at every block's border."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from resnet_models.blocks import Block
from resnet_models.network import ResNet

Step = Callable[[int, Block, Tensor], Tensor]


def plain_step(_: int, block: Block, x: Tensor) -> Tensor:
    """The block as it is."""
    return block(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def walk(network: ResNet, images: Tensor, step: Step = plain_step, order: Sequence[int] | None = None) -> Tensor:
    """Normalised FP32 [n, 3, h, w] to logits [n, classes], with `step` in place of each block, in `order` if given."""
    blocks = network.blocks()
    x = network.maxpool(torch.relu(network.bn1(network.conv1(images))))
    for position, index in enumerate(order if order is not None else range(len(blocks))):
        x = step(position, blocks[index], x)
    return network.fc(x.mean((2, 3)))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


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
