"""Networks whose keys are those of a torchvision ResNet, and whose computation is not: only their own code tells."""

import torch
from networks import seeded
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

SHALLOW = [1, 1, 1, 1]
CLASSES = 37


def plain(classes: int = CLASSES) -> ResNet:
    """torchvision's own, a block a stage."""
    return ResNet(BasicBlock, SHALLOW, num_classes=classes)


def bottlenecks(**options: object) -> ResNet:
    """torchvision's own with bottlenecks."""
    return ResNet(Bottleneck, SHALLOW, num_classes=CLASSES, **options)


def ceil_mode() -> nn.Module:
    """Pooling that keeps an incomplete window."""
    network = plain()
    network.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
    return seeded(network)


def dilated() -> nn.Module:
    """Dilation instead of the last stride."""
    return seeded(bottlenecks(replace_stride_with_dilation=[False, False, True]))


def no_pool() -> nn.Module:
    """No pooling after the stem."""
    network = plain()
    network.maxpool = nn.Identity()
    return seeded(network)


def smooth() -> nn.Module:
    """SiLU instead of ReLU."""
    network = plain()
    network.relu = nn.SiLU()
    for module in network.modules():
        if isinstance(module, BasicBlock):
            module.relu = nn.SiLU()
    return seeded(network)


def first_stride() -> nn.Module:
    """The stride on the first 1x1 convolution, as in the paper."""
    network = bottlenecks()
    for module in network.modules():
        if isinstance(module, Bottleneck) and module.conv2.stride == (2, 2):
            module.conv1.stride, module.conv2.stride = (2, 2), (1, 1)
    return seeded(network)


def other_epsilon() -> nn.Module:
    """A batch normalisation of TensorFlow's epsilon."""
    network = plain()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    return seeded(network)


class PaddedAtTheEnd(nn.Module):
    """Option A with all new channels after the old ones."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Twice the channels, half the size."""
        return nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, x.shape[1]))


def padded_at_the_end() -> nn.Module:
    """A network whose shortcuts pad all at the end."""
    network = plain()
    for module in network.modules():
        if isinstance(module, BasicBlock) and module.downsample is not None:
            module.downsample = PaddedAtTheEnd()
    return seeded(network)
