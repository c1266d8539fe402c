"""Networks before any training: what batch normalisation does to residual branches, and what pre-activation does to shortcuts.

Branches: De and Smith (arXiv 2002.10444, section 3): normalisation gives every branch the same variance while that of the skip path grows
with each block, so that deep blocks are close to the identity; without it both grow alike. Shortcuts: He et al. (arXiv 1603.05027, eq. 5):
where nothing follows the addition, the gradient at a deeper block's output arrives at every shallower one as it is.
"""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.gradients import gradient_profile
from resnet_models.analysis.material import material
from resnet_models.analysis.walk import join_and_activate, settled, walk, without_normalisation
from resnet_models.blocks import Block
from resnet_models.errors import DataError
from resnet_models.files import write_text_atomically
from resnet_models.network import ResNet, build

FAMILIES = ("resnet", "resnetv2_")
"""With a ReLU after the addition, and with nothing after it."""


@dataclass(frozen=True)
class BranchProfile:
    """Per block, first to last: variance of F(x) and of what the shortcut gives, over images and places, mean over channels."""

    branches: list[float]
    skips: list[float]

    @property
    def shares(self) -> list[float]:
        """The branch's part of the sum of both variances: 0 where the block is its shortcut."""
        return [branch / (branch + skip) for branch, skip in zip(self.branches, self.skips, strict=True)]

    @property
    def mean_share(self) -> float:
        """Mean over blocks."""
        return mean(self.shares)


@dataclass(frozen=True)
class ShortcutProfile:
    """What comes back by shortcuts.

    `arrivals`, per block of the last stage but its first: norm of the gradient that comes from the stage's end by shortcuts alone, over
    the norm it had there. `shares`, per block: the shortcut's share of the whole gradient, as in GradientProfile.
    """

    arrivals: list[float]
    shares: list[float]


@dataclass(frozen=True)
class Initialisation:
    """By network, for each seed: `branches` with and `bare` without batch normalisation; `shortcuts` of one depth in both families."""

    command: str
    images: int
    depth: int
    branches: dict[str, list[BranchProfile]]
    bare: dict[str, list[BranchProfile]]
    shortcuts: dict[str, list[ShortcutProfile]]


def branch_profile(network: ResNet, images: Tensor) -> BranchProfile:
    """Walk normalised FP32 [n, 3, h, w] with batch statistics, as the first step of training does."""
    branches: list[float] = []
    skips: list[float] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        branch, skip = block.residual(x), block.shortcut(x)
        branches.append(_variance(branch))
        skips.append(_variance(skip))
        return join_and_activate(block, branch, skip)

    with torch.inference_mode():
        walk(copy.deepcopy(network).train(), images, step)
    return BranchProfile(branches, skips)


def _variance(x: Tensor) -> float:
    return float(x.double().var(dim=(0, 2, 3)).mean())


def shortcut_profile(network: ResNet, images: Tensor, labels: Tensor) -> ShortcutProfile:
    """Backpropagate the cross-entropy of normalised FP32 [n, 3, h, w]; normalisation with the statistics of these images."""
    return ShortcutProfile(
        arrivals(settled(network, images), images, labels), gradient_profile(network, images, labels, batch_statistics=True).identity_shares
    )


def arrivals(network: ResNet, images: Tensor, labels: Tensor) -> list[float]:
    """As in ShortcutProfile, first block to last; mean over images."""
    taps: list[Tensor] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        x = x.clone() if x.requires_grad else x.requires_grad_()
        x.retain_grad()
        taps.append(x)
        return join_and_activate(block, block.residual(x).detach(), block.shortcut(x))

    def last(index: int, block: Block, x: Tensor) -> Tensor:
        x = step(index, block, x)
        if index == len(network.blocks()) - 1:
            x.retain_grad()
            taps.append(x)
        return x

    F.cross_entropy(walk(network.eval(), images, last), labels, reduction="sum").backward()  # type: ignore[no-untyped-call]  # torch's own
    inside = taps[-len(network.stages()[-1]) :]  # the inputs of the stage's blocks but the first, and the last one's output
    norms = [torch.zeros(1) if x.grad is None else x.grad.flatten(1).norm(dim=1) for x in inside]
    return [float((norm / norms[-1]).mean()) for norm in norms[:-1]]


def measure_initialisation(
    depths: Sequence[int], depth: int, seeds: int, count: int, command: str, show: Callable[[str], None]
) -> Initialisation:
    """Draw each network with the seeds 1 to `seeds`; branches at all `depths`, shortcuts at `depth`; on `count` bundled test images."""
    some = material(count, 1)
    branches: dict[str, list[BranchProfile]] = {}
    bare: dict[str, list[BranchProfile]] = {}
    shortcuts: dict[str, list[ShortcutProfile]] = {}
    for name in (f"{family}{one}" for family in FAMILIES for one in depths):
        for seed in range(1, seeds + 1):
            show(f"{name}, seed {seed} ...")
            torch.manual_seed(seed)
            network = build(name)
            branches.setdefault(name, []).append(branch_profile(network, some.images))
            bare.setdefault(name, []).append(branch_profile(without_normalisation(network), some.images))
            if name in {f"{family}{depth}" for family in FAMILIES}:
                shortcuts.setdefault(name, []).append(shortcut_profile(network, some.images, some.labels))
    return Initialisation(command, count, depth, branches, bare, shortcuts)


def write_initialisation(found: Initialisation, path: Path) -> None:
    """Write JSON; numbers with six significant digits."""
    write_text_atomically(path, json.dumps(_rounded(asdict(found))) + "\n")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def read_initialisation(path: Path) -> Initialisation:
    """Read what `write_initialisation` wrote; raise DataError for anything else."""
    try:
        c: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        profiles = {key: {name: [BranchProfile(**one) for one in rows] for name, rows in c[key].items()} for key in ("branches", "bare")}
        shortcuts = {name: [ShortcutProfile(**one) for one in rows] for name, rows in c["shortcuts"].items()}
        return Initialisation(c["command"], c["images"], c["depth"], profiles["branches"], profiles["bare"], shortcuts)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"initialisation: {path} cannot be read: {error!r}") from None
