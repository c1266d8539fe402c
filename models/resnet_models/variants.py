"""The table of variants: every network this project knows, by the name used everywhere.

Free of torch: the table is also read where only names, depths and input sizes are needed.
Sources: He et al. (arXiv 1512.03385) Table 1 (ImageNet) and section 4.2 (CIFAR, depth 6n + 2).
"""

from dataclasses import dataclass
from typing import Literal

from resnet_models.errors import UnknownVariantError

BlockKind = Literal["basic", "bottleneck", "plain"]
StemKind = Literal["imagenet", "cifar"]


@dataclass(frozen=True)
class Variant:
    """One row of the table.

    `stages` holds the blocks of each stage and `widths` their channels before expansion; `input_size` is
    the side of the square input in pixels; `depth` counts the weighted layers as the paper does.
    """

    name: str
    depth: int
    block: BlockKind
    stages: tuple[int, ...]
    widths: tuple[int, ...]
    shortcut: Literal["A", "B"]
    stem: StemKind
    input_size: int
    classes: int

    @property
    def family(self) -> str:
        """`plain` or `resnet`."""
        return "plain" if self.block == "plain" else "resnet"


def _imagenet(name: str, depth: int, block: BlockKind, stages: tuple[int, ...]) -> Variant:
    option: Literal["A", "B"] = "A" if block == "plain" else "B"  # a plain network has no projection to train
    return Variant(name, depth, block, stages, (64, 128, 256, 512), option, "imagenet", 224, 1000)


def _cifar(name: str, depth: int, block: BlockKind) -> Variant:
    blocks, rest = divmod(depth - 2, 6)
    if rest:
        raise ValueError(f"CIFAR depth {depth} is not 6n + 2")
    return Variant(name, depth, block, (blocks,) * 3, (16, 32, 64), "A", "cifar", 32, 10)


CIFAR_DEPTHS = (20, 32, 44, 56, 110)

_ROWS = (
    _imagenet("resnet18", 18, "basic", (2, 2, 2, 2)),
    _imagenet("resnet34", 34, "basic", (3, 4, 6, 3)),
    _imagenet("resnet50", 50, "bottleneck", (3, 4, 6, 3)),
    _imagenet("resnet101", 101, "bottleneck", (3, 4, 23, 3)),
    _imagenet("resnet152", 152, "bottleneck", (3, 8, 36, 3)),
    _imagenet("plain18", 18, "plain", (2, 2, 2, 2)),
    _imagenet("plain34", 34, "plain", (3, 4, 6, 3)),
    *(_cifar(f"resnet{depth}", depth, "basic") for depth in (*CIFAR_DEPTHS, 1202)),
    *(_cifar(f"plain{depth}", depth, "plain") for depth in CIFAR_DEPTHS),
    Variant("smallresnet", 14, "basic", (2, 2, 2), (32, 64, 128), "B", "cifar", 32, 10),
)

VARIANTS: dict[str, Variant] = {row.name: row for row in _ROWS}


def find_variant(name: str) -> Variant:
    """Return the variant called `name`; raise UnknownVariantError naming the known ones."""
    try:
        return VARIANTS[name]
    except KeyError:
        known = ", ".join(VARIANTS)
        raise UnknownVariantError(f"variant: '{name}' is unknown; expected one of {known}") from None
