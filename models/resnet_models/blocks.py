"""Residual building blocks and shortcuts (He et al., arXiv 1512.03385, section 3.2-3.3, Fig. 2 and 5).

Module names (`conv1`, `bn1`, `downsample`, `expansion`) are torchvision's: they are the state-dict contract. Those of
squeeze-and-excitation (`se.fc1`) and pre-activation (`norm1`) are timm's.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet_models.variants import Variant


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


def make_shortcut(variant: Variant, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Return the shortcut W_s of eq. (2), or None where the identity of eq. (1) is to stay.

    Option A pads and option B projects where the shape changes; option C projects in every block (section 4.1). Averaging before the
    projection lets it see every pixel ("ResNet-D", He T. et al. 1812.01187, Fig. 2c).
    """
    if stride == 1 and in_channels == out_channels and variant.shortcut != "C":
        return None
    if variant.shortcut == "A":
        return PadShortcut(in_channels, out_channels, stride)
    averaged = variant.downsampling == "average"
    layers: list[nn.Module] = []
    if averaged:
        layers.append(nn.AvgPool2d(2, stride, ceil_mode=True, count_include_pad=False) if stride > 1 else nn.Identity())
    layers.append(nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=1 if averaged else stride, bias=False))
    if not variant.preactivation:
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers)


def conv3x3(in_channels: int, out_channels: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """3x3 convolution with padding 1 and no bias (batch normalisation follows it)."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, stride=stride, padding=1, groups=groups, bias=False)


def conv1x1(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution without bias."""
    return nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)


class Blur(nn.Module):
    """The binomial filter [1, 2, 1] in both directions with stride 2, the border reflected (Zhang, 1904.11486)."""

    kernel: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (row[:, None] * row).expand(channels, 1, 3, 3).clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map FP32 [n, c, h, w] to [n, c, ceil(h/2), ceil(w/2)]."""
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), self.kernel, stride=2, groups=x.shape[1])


def make_subsampling(variant: Variant, channels: int, stride: int) -> nn.Module:
    """What subsamples after a convolution that keeps its stride at 1; the identity where the convolution has the stride."""
    if stride == 1 or not variant.antialias:
        return nn.Identity()
    return Blur(channels) if variant.antialias == "blur" else nn.AvgPool2d(stride)


class SqueezeExcitation(nn.Module):
    """Channels weighted by a two-layer network of their means (Hu et al., 1709.01507, Fig. 2); a sixteenth wide, in steps of 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, (channels // 16 + 4) // 8 * 8)
        self.fc1 = nn.Conv2d(channels, squeezed, kernel_size=1)
        self.fc2 = nn.Conv2d(squeezed, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, c, h, w] to the same shape."""
        return x * torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3), keepdim=True)))))


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)), eq. (1) and (2); subclasses define the residual function F.

    `survival` is the probability that F is there in a step of training (stochastic depth, Huang et al., 1603.09382); in eval mode it
    always is. It is divided by that probability while training, so that the network that is tested and exported is the one above.
    """

    expansion: int = 1
    downsample: nn.Module | None
    survival: float = 1.0

    def __init__(self, variant: Variant, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.downsample = make_shortcut(variant, in_channels, width * self.expansion, stride)
        self.conv_stride = 1 if variant.antialias else stride

    def residual(self, x: Tensor) -> Tensor:
        """F(x): FP32 [n, in, h, w] to [n, width * expansion, h/stride, w/stride]."""
        raise NotImplementedError

    def shortcut(self, x: Tensor) -> Tensor:
        """X itself, or its projection where the shape changes."""
        return x if self.downsample is None else self.downsample(x)

    def join(self, fx: Tensor, x: Tensor) -> Tensor:
        """F(x) + x: the line that makes the network residual."""
        return fx + self.shortcut(x)

    def finish(self, joined: Tensor) -> Tensor:
        """What follows the addition."""
        return torch.relu(joined)

    @property
    def last_scale(self) -> Tensor:
        """The weights that end F: with zeros there, the block is its shortcut."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, in, h, w] to [n, width * expansion, h/stride, w/stride]."""
        if not self.training or self.survival == 1.0:
            return self.finish(self.join(self.residual(x), x))
        if torch.rand(()) >= self.survival:
            return self.finish(self.shortcut(x))
        return self.finish(self.join(self.residual(x) / self.survival, x))


def make_excitation(variant: Variant, channels: int) -> nn.Module:
    """Squeeze-and-excitation where the variant has it."""
    return SqueezeExcitation(channels) if variant.squeeze else nn.Identity()


class BasicBlock(Block):
    """Two 3x3 convolutions (Fig. 5 left)."""

    expansion = 1

    def __init__(self, variant: Variant, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(variant, in_channels, width, stride)
        self.conv1 = conv3x3(in_channels, width, self.conv_stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.aa = make_subsampling(variant, width, stride)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.se = make_excitation(variant, width)

    def residual(self, x: Tensor) -> Tensor:
        """conv-bn-relu-conv-bn."""
        return cast(Tensor, self.se(self.bn2(self.conv2(self.aa(torch.relu(self.bn1(self.conv1(x))))))))

    @property
    def last_scale(self) -> Tensor:
        """The gamma of the second normalisation."""
        return self.bn2.weight


class PlainBlock(BasicBlock):
    """The plain counterpart (Fig. 3 middle): the same layers, and nothing added."""

    def join(self, fx: Tensor, x: Tensor) -> Tensor:
        """F(x) alone."""
        return fx


def inner_width(variant: Variant, width: int) -> int:
    """Channels of the bottleneck's 3x3 convolution: more than `width` in ResNeXt and wide networks."""
    return width * variant.group_width // 64 * variant.groups


class Bottleneck(Block):
    """1x1, 3x3, 1x1 convolutions (Fig. 5 right); the 3x3 in groups is ResNeXt's (Xie et al., Fig. 3c).

    The stride is on the 3x3 convolution ("v1.5"), where torchvision and its published weights have it;
    the paper has it on the first 1x1, as variants with `stride_on` 1x1 do.
    """

    expansion = 4

    def __init__(self, variant: Variant, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(variant, in_channels, width, stride)
        inner = inner_width(variant, width)
        strides = (self.conv_stride, 1) if variant.stride_on == "1x1" else (1, self.conv_stride)
        self.conv1 = conv1x1(in_channels, inner, strides[0])
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = conv3x3(inner, inner, strides[1], variant.groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.aa = make_subsampling(variant, inner, stride)
        self.conv3 = conv1x1(inner, width * self.expansion)
        self.bn3 = nn.BatchNorm2d(width * self.expansion)
        self.se = make_excitation(variant, width * self.expansion)

    def residual(self, x: Tensor) -> Tensor:
        """conv1x1-bn-relu-conv3x3-bn-relu-conv1x1-bn."""
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.aa(torch.relu(self.bn2(self.conv2(out))))
        return cast(Tensor, self.se(self.bn3(self.conv3(out))))

    @property
    def last_scale(self) -> Tensor:
        """The gamma of the third normalisation."""
        return self.bn3.weight


class PreActivatedBlock(Block):
    """y = F(relu(bn(x))) + shortcut(x) with nothing after the addition (He et al., 1603.05027, Fig. 4e).

    Where the shape changes, the projection takes the activated x, as in the authors' code.
    """

    norm1: nn.BatchNorm2d

    def convolved(self, activated: Tensor) -> Tensor:
        """F of the activated x."""
        raise NotImplementedError

    def residual(self, x: Tensor) -> Tensor:
        """F(relu(bn(x)))."""
        return self.convolved(torch.relu(self.norm1(x)))

    def shortcut(self, x: Tensor) -> Tensor:
        """X itself, or the projection of relu(bn(x))."""
        return x if self.downsample is None else self.downsample(torch.relu(self.norm1(x)))

    def finish(self, joined: Tensor) -> Tensor:
        """Nothing follows the addition."""
        return joined

    def forward(self, x: Tensor) -> Tensor:
        """FP32 [n, in, h, w] to [n, width * expansion, h/stride, w/stride]."""
        if self.training and self.survival < 1.0:
            return super().forward(x)
        activated = torch.relu(self.norm1(x))
        return self.convolved(activated) + (x if self.downsample is None else self.downsample(activated))


class PreActivatedBasic(PreActivatedBlock):
    """Two 3x3 convolutions, each after its normalisation."""

    expansion = 1

    def __init__(self, variant: Variant, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(variant, in_channels, width, stride)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv3x3(in_channels, width, stride)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)

    def convolved(self, activated: Tensor) -> Tensor:
        """conv-bn-relu-conv."""
        return cast(Tensor, self.conv2(torch.relu(self.norm2(self.conv1(activated)))))

    @property
    def last_scale(self) -> Tensor:
        """The second convolution: no normalisation follows it."""
        return self.conv2.weight


class PreActivatedBottleneck(PreActivatedBlock):
    """1x1, 3x3, 1x1 convolutions, each after its normalisation; the stride is on the 3x3."""

    expansion = 4

    def __init__(self, variant: Variant, in_channels: int, width: int, stride: int = 1) -> None:
        super().__init__(variant, in_channels, width, stride)
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = conv1x1(in_channels, width)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride, variant.groups)
        self.norm3 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, width * self.expansion)

    def convolved(self, activated: Tensor) -> Tensor:
        """conv1x1-bn-relu-conv3x3-bn-relu-conv1x1."""
        out = torch.relu(self.norm2(self.conv1(activated)))
        return cast(Tensor, self.conv3(torch.relu(self.norm3(self.conv2(out)))))

    @property
    def last_scale(self) -> Tensor:
        """The third convolution: no normalisation follows it."""
        return self.conv3.weight
