"""Several seeds of one network: the mean error and how sure it is."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnet_models.checkpoint import CheckpointInfo
from resnet_models.errors import DataError
from resnet_models.files import write_text_atomically
from resnet_models.statistics import Interval, mean_interval


@dataclass(frozen=True)
class SeedSummary:
    """One network over its seeds: errors in percent with Student's 95 % interval over seeds (unbounded for one seed).

    `train_errors` are of the final network on the un-augmented training images.
    """

    variant: str
    recipe: str
    epochs: int
    seeds: tuple[int, ...]
    test_errors: tuple[float, ...]
    train_errors: tuple[float, ...]
    test_error: Interval
    train_error: Interval


def summarise(infos: Sequence[CheckpointInfo]) -> list[SeedSummary]:
    """One row for each network, in the order of their first runs."""
    return [_row([info for info in infos if info.variant == variant]) for variant in dict.fromkeys(info.variant for info in infos)]


def _row(infos: Sequence[CheckpointInfo]) -> SeedSummary:
    first = infos[0]
    test = tuple(round(info.curve[-1].test_error, 4) for info in infos)
    train = tuple(info.training.train_error for info in infos if info.training and info.training.train_error is not None)
    chosen = tuple(info.seed for info in infos if info.seed is not None)
    return SeedSummary(first.variant, first.recipe, len(first.curve), chosen, test, train, mean_interval(test), mean_interval(train))


def write_summary(rows: Sequence[SeedSummary], path: Path) -> None:
    """Write JSON; an unbounded side of an interval is null."""
    content = [asdict(row) for row in rows]
    for row in content:
        for name in ("test_error", "train_error"):
            row[name] = {key: value if math.isfinite(value) else None for key, value in row[name].items()}
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")


def read_summary(path: Path) -> list[SeedSummary]:
    """Read what `write_summary` wrote; raise DataError for anything else."""
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        return [_told(row) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"seeds: {path} cannot be read: {error!r}") from None


def _told(row: dict[str, Any]) -> SeedSummary:
    test, train = tuple(row["test_errors"]), tuple(row["train_errors"])
    intervals = mean_interval(test), mean_interval(train)
    return SeedSummary(row["variant"], row["recipe"], row["epochs"], tuple(row["seeds"]), test, train, *intervals)
