"""Lesions at test time (Veit et al., arXiv 1605.06431, section 4): blocks deleted, several deleted, blocks in another order."""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from resnet_models.analysis.material import material
from resnet_models.analysis.walk import Step, bypass, changes_shape, plain_step, walk
from resnet_models.blocks import Block
from resnet_models.checkpoint import load_checkpoint
from resnet_models.devices import Precision
from resnet_models.errors import DataError
from resnet_models.files import write_text_atomically
from resnet_models.network import ResNet, build
from resnet_models.statistics import rank_correlation

BATCH = 125


@dataclass(frozen=True)
class Lesions:
    """Test errors in percent.

    Untouched; each block deleted; k random blocks deleted (k, error of each draw); reordered (Kendall's tau of the new order with the
    old, error). `transitions`: the blocks that change the resolution.
    """

    whole: float
    single: list[float]
    transitions: list[int]
    deleted: list[tuple[int, list[float]]]
    reordered: list[tuple[float, float]]

    @property
    def inside(self) -> list[float]:
        """Errors with one block deleted, for the blocks inside a stage."""
        return [error for index, error in enumerate(self.single) if index not in self.transitions]

    @property
    def at_transitions(self) -> list[float]:
        """Errors with one block deleted, for those that change the resolution."""
        return [self.single[index] for index in self.transitions]


@dataclass(frozen=True)
class LesionPlan:
    """How much is tried: draws for each number of deleted blocks and for each number of swaps, the seed of both; bundled test images."""

    draws: int
    seed: int
    images: int = 0
    precision: Precision = "fp32"


@dataclass(frozen=True)
class Lesion:
    """A change made to a network: blocks deleted, or their order changed (None: as trained)."""

    gone: tuple[int, ...] = ()
    order: tuple[int, ...] | None = None


def planned(network: ResNet, plan: LesionPlan) -> list[Lesion]:
    """None, each block, k random blocks, random orders; the same for the same plan."""
    count, rng = len(network.blocks()), random.Random(plan.seed)  # noqa: S311  # sampling
    orders = [Lesion(order=tuple(swapped(network, swaps, rng))) for swaps in _numbers(count) for _ in range(plan.draws)]
    several = [Lesion(tuple(rng.sample(range(count), k))) for k in _numbers(count) for _ in range(plan.draws)]
    return [Lesion(), *(Lesion((index,)) for index in range(count)), *several, *orders]


def _numbers(count: int) -> list[int]:
    return sorted({round(count * share / 8) for share in range(1, 5)} | {1})


def lesions(network: ResNet, images: Tensor, labels: Tensor, plan: LesionPlan) -> Lesions:
    """Delete and reorder blocks; normalised FP32 [n, 3, h, w], eval mode, nothing retrained."""
    return told(network, plan, list(errors_of(network, images, labels, plan)))


def errors_of(network: ResNet, images: Tensor, labels: Tensor, plan: LesionPlan, done: int = 0) -> Iterator[float]:
    """The test error with each planned lesion, after the first `done`."""
    for lesion in planned(network, plan)[done:]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=plan.precision == "bf16"):
            yield error_of(network, images, labels, _deleting(set(lesion.gone)), lesion.order)


def told(network: ResNet, plan: LesionPlan, errors: Sequence[float]) -> Lesions:
    """The errors of all planned lesions, in their order, by what was done."""
    count = len(network.blocks())
    numbers = _numbers(count)
    whole, single, rest = errors[0], errors[1 : count + 1], errors[count + 1 :]
    several, reordered = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    orders = [lesion.order for lesion in planned(network, plan) if lesion.order is not None]
    return Lesions(
        whole,
        list(single),
        [index for index in range(count) if changes_shape(network, index)],
        [(k, list(several[at * plan.draws : (at + 1) * plan.draws])) for at, k in enumerate(numbers)],
        sorted(((rank_correlation(range(count), order), error) for order, error in zip(orders, reordered, strict=True)), reverse=True),
    )


def _deleting(gone: set[int]) -> Step:
    def step(index: int, block: Block, x: Tensor) -> Tensor:
        return bypass(block, x) if index in gone else plain_step(index, block, x)

    return step


def error_of(network: ResNet, images: Tensor, labels: Tensor, step: Step, order: Sequence[int] | None = None) -> float:
    """Top-1 error in percent of the network walked with `step`."""
    with torch.inference_mode():
        batches = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
        wrong = sum(int((walk(network.eval(), x, step, order).argmax(1) != y).sum()) for x, y in batches)
    return 100 * wrong / len(labels)


def swapped(network: ResNet, swaps: int, rng: random.Random) -> list[int]:
    """The order of blocks after `swaps` random swaps of two that take and give the same shape."""
    order: list[int] = list(range(len(network.blocks())))
    groups: list[list[int]] = []
    first = 0
    for stage in network.stages():
        members = [index for index in range(first, first + len(stage)) if not changes_shape(network, index)]
        groups += [members] if len(members) > 1 else []
        first += len(stage)
    for _ in range(swaps):
        a, b = rng.sample(rng.choice(groups), 2)
        order[a], order[b] = order[b], order[a]
    return order


SAVED_EVERY = 5


def measure_lesions(paths: Sequence[Path], plan: LesionPlan, out: Path, show: Callable[[str], None]) -> dict[str, Lesions]:
    """Hurt each checkpoint's network into `out`, by network; what `out` has of the same plan is kept, lesion by lesion."""
    errors = _read(out, plan) if out.exists() else {}
    for path in paths:
        checkpoint = load_checkpoint(path)
        network, name = checkpoint.network, checkpoint.network.variant.name
        known = errors.setdefault(name, [])
        total = len(planned(network, plan))
        some = material(plan.images, plan.seed, checkpoint.info.normalisation)
        for error in errors_of(network, some.images, some.labels, plan, len(known)):
            known.append(error)
            show(f"{name}: {len(known)} of {total} lesions ...")
            if len(known) % SAVED_EVERY == 0 or len(known) == total:
                write_text_atomically(out, json.dumps({"plan": asdict(plan), "errors": errors}) + "\n")
    return read_lesions(out)


def read_lesions(path: Path) -> dict[str, Lesions]:
    """The networks in a file that `measure_lesions` wrote whose lesions are all measured; raise DataError for anything else."""
    errors = _read(path)
    plan = read_plan(path)
    networks = {name: build(name) for name in errors}
    return {name: told(networks[name], plan, some) for name, some in errors.items() if len(some) == len(planned(networks[name], plan))}


def read_plan(path: Path) -> LesionPlan:
    """How the lesions in a file were made; raise DataError for anything else than what `measure_lesions` wrote."""
    try:
        return LesionPlan(**json.loads(path.read_text(encoding="utf-8"))["plan"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"lesions: {path} cannot be read: {error!r}") from None


def _read(path: Path, plan: LesionPlan | None = None) -> dict[str, list[float]]:
    measured = read_plan(path)
    if plan is not None and plan != measured:
        raise DataError(f"lesions: {path} was measured with {measured}; expected {plan}, or another --out")
    try:
        return {str(name): [float(error) for error in errors] for name, errors in json.loads(path.read_text())["errors"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"lesions: {path} cannot be read: {error!r}") from None
