"""One builder for the whole family (He et al., arXiv 1512.03385, Table 1 and section 4.2)."""

from typing import Any

import torch
from torch import Tensor, nn

from resnet_models.blocks import (
    BasicBlock,
    Block,
    Blur,
    Bottleneck,
    PlainBlock,
    PreActivatedBasic,
    PreActivatedBottleneck,
    conv3x3,
)
from resnet_models.variants import Variant, find_variant

BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck, "plain": PlainBlock}
PREACTIVATED: dict[str, type[Block]] = {"basic": PreActivatedBasic, "bottleneck": PreActivatedBottleneck}


class ResNet(nn.Module):
    """Stem, stages of blocks, global average pooling and a linear classifier.

    Input FP32 [n, channels, height, width], normalised; output FP32 logits [n, classes]. Attribute names are
    torchvision's (`conv1`, `bn1`, `layer1` ... `fc`), so that its state dicts load unchanged.
    """

    conv1: Any  # a convolution, or the sequence of a deep stem
    bn1: Any  # a batch normalisation; the identity in pre-activated networks
    fc: Any  # a linear layer, or a sequence of them

    def __init__(self, variant: Variant, classes: int | None = None) -> None:
        super().__init__()
        self.variant = variant
        channels = variant.stem_channels
        self.conv1 = make_stem(variant)
        self.bn1 = nn.Identity() if variant.preactivation else nn.BatchNorm2d(channels)
        self.maxpool = make_stem_pool(variant)
        self.stage_names = [f"layer{i + 1}" for i in range(len(variant.stages))]
        for i, (name, count, width) in enumerate(zip(self.stage_names, variant.stages, variant.widths, strict=True)):
            stage, channels = make_stage(variant, channels, width, count, stride=1 if i == 0 else 2)
            self.add_module(name, stage)
        self.norm = nn.BatchNorm2d(channels) if variant.preactivation else nn.Identity()
        self.fc = make_head(channels, variant.head, classes or variant.classes)
        self.apply(init_he)

    def stages(self) -> list[nn.Sequential]:
        """The stages in order; each is a sequence of blocks."""
        return [self.get_submodule(name) for name in self.stage_names]  # type: ignore[misc]  # all are Sequential

    def blocks(self) -> list[Block]:
        """All blocks in order, for analysis (lesions, gradient norms)."""
        return [block for stage in self.stages() for block in stage]  # type: ignore[misc]  # all are Block

    @property
    def first_conv(self) -> nn.Conv2d:
        """The convolution that takes the image."""
        return next(module for module in self.conv1.modules() if isinstance(module, nn.Conv2d))

    def enter(self, x: Tensor) -> Tensor:
        """The stem: FP32 [n, c, h, w] to what the first block takes."""
        x = self.conv1(x)
        if not self.variant.preactivation:
            x = torch.relu(self.bn1(x))
        return self.maxpool(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is Any

    def activate_last(self, x: Tensor) -> Tensor:
        """What the last block gives to feature maps: pre-activated blocks leave a normalisation and a ReLU to do."""
        return torch.relu(self.norm(x)) if self.variant.preactivation else x

    def classify(self, features: Tensor) -> Tensor:
        """Feature maps to logits FP32 [n, classes]."""
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(features, 1), 1))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any

    def features(self, x: Tensor) -> Tensor:
        """Feature maps before pooling: FP32 [n, c, h, w] to [n, channels, h', w']."""
        x = self.enter(x)
        for stage in self.stages():
            x = stage(x)
        return self.activate_last(x)

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, channels, h, w] to logits FP32 [n, classes]."""
        return self.classify(self.features(x))


def make_stem(variant: Variant) -> nn.Module:
    """7x7 with stride 2, 3x3 with stride 1 (CIFAR), or three 3x3 of which the first has stride 2 (`c`, `d`, `s`, `t`)."""
    channels, widths = variant.channels, variant.stem_widths
    if variant.stem == "imagenet":
        return nn.Conv2d(channels, variant.stem_channels, 7, 2, 3, bias=False)
    if variant.stem == "cifar":
        return conv3x3(channels, variant.stem_channels)
    first, second = (conv3x3(channels, widths[0], 2), conv3x3(widths[0], widths[1]))
    norms = nn.BatchNorm2d(widths[0]), nn.BatchNorm2d(widths[1])
    return nn.Sequential(first, norms[0], nn.ReLU(), second, norms[1], nn.ReLU(), conv3x3(widths[1], widths[2]))


def make_stem_pool(variant: Variant) -> nn.Module:
    """The pooling after the stem; CIFAR's has none."""
    if variant.stem == "cifar":
        return nn.Identity()
    if variant.antialias == "average":
        return nn.AvgPool2d(2)
    if variant.antialias == "blur":
        return nn.Sequential(nn.MaxPool2d(3, 1, 1), Blur(variant.stem_channels))
    return nn.MaxPool2d(3, 2, 1)


def make_head(channels: int, hidden: tuple[int, ...], classes: int) -> nn.Module:
    """One linear layer, or several with a ReLU between."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(channels, width), nn.ReLU()]
        channels = width
    last = nn.Linear(channels, classes)
    return nn.Sequential(*layers, last) if layers else last


def make_stage(variant: Variant, channels: int, width: int, count: int, stride: int) -> tuple[nn.Sequential, int]:
    """Return a stage of `count` blocks, the first with `stride`, and the channels it puts out."""
    block = (PREACTIVATED if variant.preactivation else BLOCKS)[variant.block]
    blocks: list[nn.Module] = []
    for index in range(count):
        blocks.append(block(variant, channels, width, stride if index == 0 else 1))
        channels = width * block.expansion
    return nn.Sequential(*blocks), channels


def init_he(module: nn.Module) -> None:
    """He initialisation (arXiv 1502.01852, eq. 10), in the fan-out form torchvision uses."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def build(name: str, classes: int | None = None) -> ResNet:
    """Build variant `name` with fresh weights; `classes` replaces the variant's own number."""
    return ResNet(find_variant(name), classes)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in network.parameters())


def count_multiply_adds(network: nn.Module, size: int | None = None, channels: int | None = None) -> int:
    """Multiply-adds of convolutions and linear layers for one image, as the paper's Table 1 counts them.

    `size` and `channels` of the image are the variant's unless given; needed for a network that is not of this family.
    """
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    variant = getattr(network, "variant", None)
    side, depth = size or variant.input_size, channels or variant.channels  # type: ignore[union-attr]  # one of both is there
    first = next(network.parameters(), torch.zeros(0))
    was_training = network.training
    with torch.inference_mode():
        network.eval()(torch.zeros(1, depth, side, side, device=first.device, dtype=first.dtype))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
