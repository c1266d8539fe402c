"""Residual building blocks and shortcuts (He et al., arXiv 1512.03385, section 3.2-3.3, Fig. 2 and 5).

Module names (`conv1`, `bn1`, `downsample`, `expansion`) are torchvision's: they are the state-dict contract.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ShortcutOption = Literal["A", "B"]


class PadShortcut(nn.Module):
    """Option A (section 3.3): identity with stride, extra channels zero-padded, no parameters.

    The zeros go on both sides of the channel axis, half each, as in the published CIFAR checkpoints:
    a network trained with one placement does not work with another.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stride = stride
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        """Map FP32 [n, in, h, w] to [n, out, ceil(h/stride), ceil(w/stride)]."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


def make_shortcut(option: ShortcutOption, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Return the shortcut W_s of eq. (2), or None where the identity of eq. (1) fits as it is."""
    if stride == 1 and in_channels == out_channels:
        return None
    if option == "A":
        return PadShortcut(in_channels, out_channels, stride)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


def conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution with padding 1 and no bias (batch normalisation follows it)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, bias=False)


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)), eq. (1) and (2); subclasses define the residual function F."""

    expansion: int = 1
    downsample: nn.Module | None

    def __init__(self, option: ShortcutOption, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.downsample = make_shortcut(option, in_channels, width * self.expansion, stride)

    def residual(self, x: Tensor) -> Tensor:
        """F(x): FP32 [n, in, h, w] to [n, width * expansion, h/stride, w/stride]."""
        raise NotImplementedError

    def shortcut(self, x: Tensor) -> Tensor:
        """X itself, or its projection where the shape changes."""
        return x if self.downsample is None else self.downsample(x)

    def join(self, fx: Tensor, x: Tensor) -> Tensor:
        """F(x) + x: the line that makes the network residual."""
        return fx + self.shortcut(x)

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, in, h, w] to [n, width * expansion, h/stride, w/stride]."""
        return torch.relu(self.join(self.residual(x), x))


class BasicBlock(Block):
    """Two 3x3 convolutions (Fig. 5 left)."""

    expansion = 1

    def __init__(self, option: ShortcutOption, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(option, in_channels, width, stride)
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)

    def residual(self, x: Tensor) -> Tensor:
        """conv-bn-relu-conv-bn."""
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


class PlainBlock(BasicBlock):
    """The plain counterpart (Fig. 3 middle): the same layers, and nothing added."""

    def join(self, fx: Tensor, x: Tensor) -> Tensor:
        """F(x) alone."""
        return fx


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolutions (Fig. 5 right).

    The stride is on the 3x3 convolution ("v1.5"), where torchvision and its published weights have it;
    the paper has it on the first 1x1.
    """

    expansion = 4

    def __init__(self, option: ShortcutOption, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(option, in_channels, width, stride)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, width * self.expansion, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        """conv1x1-bn-relu-conv3x3-bn-relu-conv1x1-bn."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = torch.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any
