"""The table of variants: every network this project knows, by the name used everywhere.

Free of torch: the table is also read where only names, depths and input sizes are needed.
Sources: He et al. (arXiv 1512.03385) Table 1 (ImageNet) and section 4.2 (CIFAR, depth 6n + 2); He et al. (1603.05027, v2);
Xie et al. (1611.05431, ResNeXt); Zagoruyko and Komodakis (1605.07146, wide); He T. et al. (1812.01187, the deep stems `c`, `d`, `s`);
Hu et al. (1709.01507, squeeze-and-excitation); Zhang (1904.11486, blur). Names are torchvision's and timm's.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

from resnet_models.errors import UnknownVariantError

BlockKind = Literal["basic", "bottleneck", "plain"]
StemKind = Literal["imagenet", "cifar", "deep"]
Shortcut = Literal["A", "B", "C"]


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    `stages` holds the blocks of each stage and `widths` their channels before expansion; `input_size` is
    the side of the square input in pixels; `depth` counts the weighted layers as the paper does.

    `groups` and `group_width` are ResNeXt's cardinality and torchvision's `width_per_group`; `stem_widths` are the channels after
    each convolution of the stem (empty: the first of `widths`). `downsampling` is what the projection shortcut does where the stride
    is 2: a strided convolution, or an average and a convolution. `stride_on` is the bottleneck's convolution with the stride: the
    paper has it on the first 1x1 ("v1"), torchvision on the 3x3 ("v1.5"). `antialias` is what subsamples instead of a stride.
    `head` holds the widths of hidden linear layers, each followed by a ReLU, before the classifier.
    """

    name: str
    depth: int
    block: BlockKind
    stages: tuple[int, ...]
    widths: tuple[int, ...]
    shortcut: Shortcut
    stem: StemKind
    input_size: int
    classes: int
    channels: int = 3
    groups: int = 1
    group_width: int = 64
    stem_widths: tuple[int, ...] = ()
    downsampling: Literal["convolution", "average"] = "convolution"
    stride_on: Literal["3x3", "1x1"] = "3x3"
    antialias: Literal["", "average", "blur"] = ""
    squeeze: bool = False
    preactivation: bool = False
    head: tuple[int, ...] = ()

    @property
    def family(self) -> str:
        """`plain` or `resnet`."""
        return "plain" if self.block == "plain" else "resnet"

    @property
    def stem_channels(self) -> int:
        """Channels that enter the first stage."""
        return self.stem_widths[-1] if self.stem_widths else self.widths[0]

    def architecture(self) -> "Variant":
        """What makes the network, without name, classes, channels, head and size: equal for the same layers."""
        return replace(self, name="", classes=0, channels=3, input_size=0, head=())


IMAGENET_WIDTHS = (64, 128, 256, 512)
STEMS = {"c": (32, 32, 64), "d": (32, 32, 64), "s": (64, 64, 128), "t": (24, 32, 64)}
AVERAGED = ("d", "t")
ANTIALIAS_NAMES = {"average": "aa", "blur": "blur", "": ""}


def _imagenet(name: str, depth: int, block: BlockKind, stages: tuple[int, ...], **more: Any) -> Variant:
    option: Shortcut = "A" if block == "plain" else "B"  # a plain network has no projection to train
    return Variant(name, depth, block, stages, IMAGENET_WIDTHS, option, "imagenet", 224, 1000, **more)


def _deep(row: Variant, letter: str) -> Variant:
    """The row with one of the deep stems; `d` and `t` average where they downsample."""
    down: Literal["convolution", "average"] = "average" if letter in AVERAGED else "convolution"
    return replace(row, name=row.name + letter, stem="deep", stem_widths=STEMS[letter], downsampling=down)


def _cifar(name: str, depth: int, block: BlockKind) -> Variant:
    blocks, rest = divmod(depth - 2, 6)
    if rest:
        raise ValueError(f"CIFAR depth {depth} is not 6n + 2")
    return Variant(name, depth, block, (blocks,) * 3, (16, 32, 64), "A", "cifar", 32, 10)


CIFAR_DEPTHS = (20, 32, 44, 56, 110)
OPTION_DEPTHS = (8, *CIFAR_DEPTHS)
"""Depths at which the shortcuts B and C and pre-activation can be compared with option A."""

_PAPER = (
    _imagenet("resnet18", 18, "basic", (2, 2, 2, 2)),
    _imagenet("resnet34", 34, "basic", (3, 4, 6, 3)),
    _imagenet("resnet50", 50, "bottleneck", (3, 4, 6, 3)),
    _imagenet("resnet101", 101, "bottleneck", (3, 4, 23, 3)),
    _imagenet("resnet152", 152, "bottleneck", (3, 8, 36, 3)),
)
_TIMM = (
    _imagenet("resnet10", 10, "basic", (1, 1, 1, 1)),
    _imagenet("resnet14", 14, "bottleneck", (1, 1, 1, 1)),
    _imagenet("resnet26", 26, "bottleneck", (2, 2, 2, 2)),
    _imagenet("resnet200", 200, "bottleneck", (3, 24, 36, 3)),
)
_STANDARD = (*_PAPER, *_TIMM)
_BOTTLENECKS = tuple(row for row in _STANDARD if row.block == "bottleneck")

_ROWS = (
    *_PAPER,
    _imagenet("plain18", 18, "plain", (2, 2, 2, 2)),
    _imagenet("plain34", 34, "plain", (3, 4, 6, 3)),
    *(_cifar(f"resnet{depth}", depth, "basic") for depth in (8, *CIFAR_DEPTHS, 1202)),
    *(_cifar(f"plain{depth}", depth, "plain") for depth in CIFAR_DEPTHS),
    Variant("smallresnet", 14, "basic", (2, 2, 2), (32, 64, 128), "B", "cifar", 32, 10),
    *(replace(_cifar(f"resnet{depth}_b", depth, "basic"), shortcut="B") for depth in OPTION_DEPTHS),
    *(replace(_cifar(f"resnet{depth}_c", depth, "basic"), shortcut="C") for depth in OPTION_DEPTHS),
    *(replace(_cifar(f"resnetv2_{depth}", depth, "basic"), preactivation=True) for depth in OPTION_DEPTHS),
    *_TIMM,
    *(_deep(row, letter) for row in _STANDARD for letter in STEMS),
    *(
        replace(row, name=f"resnext{row.depth}_{groups}x{width}d", groups=groups, group_width=width)
        for row in _BOTTLENECKS
        for groups, width in ((32, 4), (32, 8), (64, 4))
    ),
    *(replace(row, name=f"wide_{row.name}_2", group_width=128) for row in _BOTTLENECKS),
    *(replace(row, name=f"se{row.name}", squeeze=True) for row in _STANDARD),
    *(replace(row, name=row.name.replace("resnet", "resnetaa"), antialias="average") for row in _STANDARD),
    *(replace(row, name=row.name.replace("resnet", "resnetblur"), antialias="blur") for row in _STANDARD),
    *(replace(row, name=f"{row.name}-v1", stride_on="1x1") for row in _BOTTLENECKS),
    *(replace(row, name=f"resnetv2_{row.depth}", preactivation=True) for row in _STANDARD),
    *(_deep(replace(row, name=f"resnetv2_{row.depth}", preactivation=True), letter) for row in _STANDARD for letter in AVERAGED),
)

VARIANTS: dict[str, Variant] = {row.name: row for row in _ROWS}
_BY_ARCHITECTURE = {row.architecture(): row.name for row in reversed(_ROWS)}
MOST_NAMED = 12


def find_variant(name: str) -> Variant:
    """Return the variant called `name`; raise UnknownVariantError naming the nearest known ones."""
    try:
        return VARIANTS[name]
    except KeyError:
        raise UnknownVariantError(f"variant: '{name[:60]}' is unknown; expected one of {', '.join(nearest_names(name))}") from None


def nearest_names(name: str) -> list[str]:
    """The paper's names, and those of the table that begin like `name`."""
    alike = [known for known in VARIANTS if known.startswith(name[:9]) or name.startswith(known)]
    return [*list(dict.fromkeys((*(row.name for row in _PAPER), *alike)))[:MOST_NAMED], "..."]


def named(variant: Variant) -> Variant:
    """The variant under its name in the table, or under one made of what it is."""
    return replace(variant, name=_BY_ARCHITECTURE.get(variant.architecture()) or _describe(variant))


def _describe(variant: Variant) -> str:
    kind = ("se" if variant.squeeze else "") + ("resnext" if variant.groups > 1 else "resnet")
    kind += "v2_" if variant.preactivation else ANTIALIAS_NAMES[variant.antialias]
    parts = [f"{kind}{variant.depth}"]
    if (variant.groups, variant.group_width) != (1, 64):
        parts.append(f"{variant.groups}x{variant.group_width}d")
    if variant.stem == "deep":
        parts.append("deep" + "-".join(map(str, variant.stem_widths)))
    elif variant.stem == "cifar":
        parts.append("cifar")
    if variant.downsampling == "average":
        parts.append("averaged")
    standard = IMAGENET_WIDTHS if len(variant.widths) == 4 else (16, 32, 64)
    if variant.widths != standard:
        parts.append("w" + "-".join(map(str, variant.widths)))
    if len(variant.stages) == 3:
        parts.append(variant.shortcut.lower())
    return "_".join(parts)
