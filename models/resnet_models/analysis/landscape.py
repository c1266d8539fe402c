"""The loss around a trained network, on a plane of two random directions with filter normalisation (Li et al., arXiv 1712.09913)."""

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.analysis.material import material
from resnet_models.checkpoint import load_checkpoint
from resnet_models.devices import Precision
from resnet_models.errors import DataError
from resnet_models.files import write_text_atomically
from resnet_models.network import ResNet

BATCH = 64


@dataclass(frozen=True)
class LandscapePlan:
    """Grid, reach in filter norms, number of bundled test images, seed of the directions, arithmetic."""

    steps: int
    reach: float
    images: int
    seed: int
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Landscape:
    """Mean cross-entropy FP64 [steps, steps] at `offsets` along both directions, in units of each filter's norm; 0 is the network."""

    offsets: list[float]
    losses: list[list[float]]
    images: int

    @property
    def centre(self) -> float:
        """The trained network's own loss on these images."""
        middle = len(self.offsets) // 2
        return self.losses[middle][middle]

    def roughness(self) -> float:
        """Share of the plane's inner points where the loss is not convex: the finite-difference Hessian has a negative eigenvalue.

        Counted on log(1 + loss), so that the steep rim, where losses are in the thousands, does not decide.
        """
        grid = np.log1p(np.asarray(self.losses))
        centre = grid[1:-1, 1:-1]
        xx = grid[2:, 1:-1] - 2 * centre + grid[:-2, 1:-1]
        yy = grid[1:-1, 2:] - 2 * centre + grid[1:-1, :-2]
        xy = (grid[2:, 2:] - grid[2:, :-2] - grid[:-2, 2:] + grid[:-2, :-2]) / 4
        least = (xx + yy) / 2 - np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
        return float((least < 0).mean())

    def basin(self, factor: float = 2.0) -> float:
        """Share of the plane where the loss is below `factor` nats: about what guessing among ten classes costs is 2.3."""
        return float((np.asarray(self.losses) < factor).mean())


def direction(network: ResNet, generator: torch.Generator) -> list[Tensor]:
    """A random direction: every filter has the norm of the network's filter; biases and normalisation stay (Li et al., section 4)."""
    found = []
    for weight in network.parameters():
        if weight.dim() < 2:
            found.append(torch.zeros_like(weight))
            continue
        drawn = torch.randn(weight.shape, generator=generator)
        norms, own = drawn.flatten(1).norm(dim=1), weight.detach().flatten(1).norm(dim=1)
        found.append(drawn * (own / norms.clamp_min(1e-10)).view(-1, *[1] * (weight.dim() - 1)))
    return found


@dataclass(frozen=True)
class Plane:
    """A network to move along two directions from where its weights `start`, and the images that the loss is of."""

    moved: ResNet
    start: list[Tensor]
    first: list[Tensor]
    second: list[Tensor]
    images: Tensor
    labels: Tensor
    precision: Precision

    def loss_at(self, a: float, b: float) -> float:
        """Mean cross-entropy with the weights moved by `a` and `b`; autocast must not outlive a point, since it remembers weights."""
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            for weight, origin, one, two in zip(self.moved.parameters(), self.start, self.first, self.second, strict=True):
                weight.copy_(origin + a * one + b * two)
            parts = zip(torch.split(self.images, BATCH), torch.split(self.labels, BATCH), strict=True)
            total = sum(float(F.cross_entropy(self.moved(x).float(), y, reduction="sum")) for x, y in parts)
        return total / len(self.labels)


def loss_landscape(
    network: ResNet,
    images: Tensor,
    labels: Tensor,
    plan: LandscapePlan,
    on_row: Callable[[Landscape], None] = lambda _: None,
    rows: Sequence[list[float]] = (),
) -> Landscape:
    """Walk the plan's grid from -reach to reach, after the `rows` that are done.

    Normalised FP32 [n, 3, h, w], eval mode, statistics as trained.
    """
    steps = plan.steps
    if steps % 2 == 0:
        raise ValueError(f"steps: {steps}; expected an odd number, so that the network itself is on the grid")
    generator = torch.Generator().manual_seed(plan.seed)
    moved = copy.deepcopy(network).eval()
    start = [weight.detach().clone() for weight in moved.parameters()]
    first, second = direction(network, generator), direction(network, generator)
    plane = Plane(moved, start, first, second, images, labels, plan.precision)
    offsets = [plan.reach * (2 * i / (steps - 1) - 1) for i in range(steps)]
    losses = list(rows)
    for a in offsets[len(losses) :]:
        losses.append([plane.loss_at(a, b) for b in offsets])
        on_row(Landscape(offsets, losses, len(labels)))
    return Landscape(offsets, losses, len(labels))


def measure_landscapes(paths: Sequence[Path], plan: LandscapePlan, out: Path, show: Callable[[str], None]) -> dict[str, Landscape]:
    """Measure each checkpoint into `out`, by network; what `out` has of the same plan is kept, row by row."""
    found = _read(out, plan) if out.exists() else {}
    for path in paths:
        checkpoint = load_checkpoint(path)
        name = checkpoint.network.variant.name
        rows = found[name].losses if name in found else []
        some = material(plan.images, plan.seed, checkpoint.info.normalisation)

        def on_row(so_far: Landscape, name: str = name) -> None:
            found[name] = so_far
            write_landscapes(found, plan, out)
            show(f"{name}: row {len(so_far.losses)} of {plan.steps} ...")

        found[name] = loss_landscape(checkpoint.network, some.images, some.labels, plan, on_row, rows)
    return {name: found[name] for name in (load_checkpoint(path).network.variant.name for path in paths)}


def write_landscapes(found: dict[str, Landscape], plan: LandscapePlan, path: Path) -> None:
    """Write JSON, losses with five significant digits."""
    rows = {
        name: {"offsets": one.offsets, "images": one.images, "losses": [[float(f"{loss:.5g}") for loss in row] for row in one.losses]}
        for name, one in found.items()
    }
    write_text_atomically(path, json.dumps({"plan": asdict(plan), "landscapes": rows}) + "\n")


def read_landscapes(path: Path) -> dict[str, Landscape]:
    """Read what `write_landscapes` wrote, whole planes only; raise DataError for anything else."""
    return {name: one for name, one in _read(path).items() if len(one.losses) == len(one.offsets)}


def _read(path: Path, plan: LandscapePlan | None = None) -> dict[str, Landscape]:
    """Also planes that are not whole; raise DataError for another plan than the one given."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        measured = LandscapePlan(**content["plan"])
        found = {name: Landscape(**one) for name, one in content["landscapes"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"landscapes: {path} cannot be read: {error!r}") from None
    if plan is not None and plan != measured:
        raise DataError(f"landscapes: {path} was measured with {measured}; expected {plan}, or another --out")
    return found
