"""One builder for the whole family (He et al., arXiv 1512.03385, Table 1 and section 4.2)."""

import torch
from torch import Tensor, nn

from resnet_models.blocks import BasicBlock, Block, Bottleneck, PlainBlock
from resnet_models.variants import Variant, find_variant

BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck, "plain": PlainBlock}


class ResNet(nn.Module):
    """Stem, stages of blocks, global average pooling and a linear classifier.

    Input FP32 [n, 3, size, size], normalised; output FP32 logits [n, classes]. Attribute names are
    torchvision's (`conv1`, `bn1`, `layer1` ... `fc`), so that its state dicts load unchanged.
    """

    def __init__(self, variant: Variant, classes: int | None = None) -> None:
        super().__init__()
        self.variant = variant
        imagenet = variant.stem == "imagenet"
        channels = variant.widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, 2, 3, bias=False) if imagenet else nn.Conv2d(3, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool: nn.Module = nn.MaxPool2d(3, 2, 1) if imagenet else nn.Identity()
        self.stage_names = [f"layer{i + 1}" for i in range(len(variant.stages))]
        for i, (name, count, width) in enumerate(zip(self.stage_names, variant.stages, variant.widths, strict=True)):
            stage, channels = make_stage(variant, channels, width, count, stride=1 if i == 0 else 2)
            self.add_module(name, stage)
        self.fc = nn.Linear(channels, classes or variant.classes)
        self.apply(init_he)

    def stages(self) -> list[nn.Sequential]:
        """The stages in order; each is a sequence of blocks."""
        return [self.get_submodule(name) for name in self.stage_names]  # type: ignore[misc]  # all are Sequential

    def blocks(self) -> list[Block]:
        """All blocks in order, for analysis (lesions, gradient norms)."""
        return [block for stage in self.stages() for block in stage]  # type: ignore[misc]  # all are Block

    def features(self, x: Tensor) -> Tensor:
        """Feature maps before pooling: FP32 [n, 3, h, w] to [n, channels, h', w']."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        for stage in self.stages():
            x = stage(x)
        return x

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, 3, h, w] to logits FP32 [n, classes]."""
        return self.fc(torch.flatten(nn.functional.adaptive_avg_pool2d(self.features(x), 1), 1))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


def make_stage(variant: Variant, channels: int, width: int, count: int, stride: int) -> tuple[nn.Sequential, int]:
    """Return a stage of `count` blocks, the first with `stride`, and the channels it puts out."""
    block = BLOCKS[variant.block]
    blocks: list[nn.Module] = []
    for index in range(count):
        blocks.append(block(variant.shortcut, channels, width, stride if index == 0 else 1))
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


def count_multiply_adds(network: ResNet) -> int:
    """Multiply-adds of convolutions and the classifier for one image, as the paper's Table 1 counts them."""
    total = 0

    def count(module: nn.Module, _inputs: object, output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Conv2d):
            total += output[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Linear):
            total += module.weight.numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    size = network.variant.input_size
    was_training = network.training
    with torch.inference_mode():
        network.eval()(torch.zeros(1, 3, size, size, device=network.fc.weight.device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return total
