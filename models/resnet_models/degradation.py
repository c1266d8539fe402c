"""The degradation experiment (He et al., arXiv 1512.03385, section 4.2 and Fig. 6): plain against residual, shallow against deep.

The claim: a deeper *plain* network has the higher *training* error, so it is not overfitting that makes it worse, and
identity shortcuts turn this around.
"""

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from resnet_models.checkpoint import CheckpointInfo, Epoch, load_checkpoint
from resnet_models.errors import ResnetModelsError
from resnet_models.files import write_atomically
from resnet_models.run_files import Identity, differences, identity_of, is_finished
from resnet_models.variants import VARIANTS

COLUMNS = ("network", "epoch", "train_loss", "train_error", "test_error")
FAMILIES = ("plain", "resnet")
LAST = 3


@dataclass(frozen=True)
class Run:
    """One trained network and its curve; errors in percent."""

    name: str
    seed: int | None
    curve: tuple[Epoch, ...]

    @property
    def train_error(self) -> float:
        """Training error in percent, mean of the last three epochs, as seen on augmented images."""
        return _mean([point.train_error for point in self.curve[-LAST:]])

    @property
    def test_error(self) -> float:
        """Test error in percent after the last epoch."""
        return self.curve[-1].test_error


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def networks(depths: tuple[int, int]) -> list[str]:
    """The four names of a pair of depths; raise ResnetModelsError for depths that are not CIFAR's or not in order."""
    shallow, deep = depths
    names = [f"{family}{depth}" for family in FAMILIES for depth in depths]
    known = sorted(row.depth for row in VARIANTS.values() if row.stem == "cifar" and row.family == "plain")
    if shallow >= deep or any(depth not in known for depth in depths):
        raise ResnetModelsError(f"depths: {shallow},{deep}; expected two of {', '.join(map(str, known))}, the smaller first")
    return names


def reusable(path: Path, wanted: Identity) -> CheckpointInfo | None:
    """The record of a checkpoint that is complete and has the same recipe, planned length, seed and, if recorded, images.

    Arithmetic and device may differ: a network trained elsewhere is as good a run of the same experiment.
    """
    if not path.exists():
        return None
    info = load_checkpoint(path).info
    same = {key: value for key, value in wanted.items() if key not in ("precision", "device")}
    return info if is_finished(info) and not differences(identity_of(info), same) else None


def run_experiment(names: Sequence[str], find: Callable[[str], CheckpointInfo | None], train: Callable[[str], CheckpointInfo]) -> list[Run]:
    """Take each network from `find`, or train it."""
    infos = [(name, find(name) or train(name)) for name in names]
    return [Run(name, info.seed, info.curve) for name, info in infos]


def write_curves(runs: Sequence[Run], path: Path) -> None:
    """Write curves.csv: one row an epoch, errors in percent."""

    def write(temporary: Path) -> None:
        with temporary.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for run in runs:
                writer.writerows((run.name, p.epoch, p.train_loss, p.train_error, p.test_error) for p in run.curve)

    write_atomically(path, write)


def verdict(runs: Sequence[Run]) -> str:
    """Say in words what the numbers say, whether or not it is what the paper says; `runs` in the order of `networks`."""
    plain, residual = runs[:2], runs[2:]
    degraded = plain[1].train_error > plain[0].train_error
    mended = residual[1].train_error < residual[0].train_error
    lines = [
        _compare(plain, "the degradation is there" if degraded else "NO degradation in this run, against the paper's claim"),
        _compare(residual, "depth helps" if mended else "depth does NOT help in this run, against the paper's claim"),
    ]
    both = "has the signs of" if degraded and mended else "does not have the signs of"
    seeds = ", ".join(f"{run.name} {run.seed}" for run in runs)
    return (
        "\n".join(
            [*lines, f"Together this {both} He et al., Fig. 6. Seeds: {seeds}; one run each: how sure it is, `evaluate` and `claims` tell."]
        )
        + "\n"
    )


def _compare(pair: Sequence[Run], meaning: str) -> str:
    shallow, deep = pair
    above = deep.train_error - shallow.train_error
    return (
        f"{deep.name}'s training error, {deep.train_error:.2f} %, is {abs(above):.2f} points {'above' if above > 0 else 'below'} "
        f"{shallow.name}'s, {shallow.train_error:.2f} % (test error {deep.test_error:.2f} % against {shallow.test_error:.2f} %): {meaning}."
    )
