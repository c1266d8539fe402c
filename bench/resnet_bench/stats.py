"""Figures over repeats: medians with their range and interval, and tests of difference."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES, LEAST_FOR_INTERVAL = 2000, 3
MOST_PERMUTATIONS = 20_000
SMALLEST_SPREAD = 0.005  # of a figure: no benchmark is stiller than that, whatever a few equal repeats say
SEED = 18


@dataclass(frozen=True)
class Summary:
    """Median, range and number of the repeats; `interval` is the bootstrap's 95 % interval of the median, None of fewer than 3."""

    median: float
    low: float
    high: float
    n: int
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Summary | None":
        """Of the values that are known; None without any."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        return cls(statistics.median(known), min(known), max(known), len(known), bootstrap(known))


def bootstrap(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % percentile interval of the median over resamples of `values`; None of fewer than 3."""
    return _interval(values, np.median)


def mean_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Of the mean, likewise."""
    return _interval(values, np.mean)


def _interval(values: Sequence[float], of: Callable[..., NDArray[np.float64]]) -> tuple[float, float] | None:
    if len(values) < LEAST_FOR_INTERVAL:
        return None
    drawn = np.random.default_rng(SEED).choice(np.array(values), (RESAMPLES, len(values)))
    low, high = np.percentile(of(drawn, axis=1), (2.5, 97.5))
    return float(low), float(high)


def adjusted_p_values(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """How likely each change would be if nothing had changed, corrected for the number of figures.

    `before` [figures, n] and `after` [figures, m] hold a column for each repeat, positive or NaN where unknown. Whole repeats are
    permuted between the two, all figures together, and p-values are corrected by Holm's step-down on the permutation distribution of
    the greatest change (Westfall and Young 1993, algorithm 2.8): like Holm's own correction it bounds the chance of *any* false alarm,
    and loses nothing where figures go up and down together.
    """
    values = np.log(np.maximum(np.concatenate([before, after], axis=1), 1e-9))
    statistic = _changes(values, _labellings(values.shape[1], before.shape[1]))
    observed = statistic[:, 0]
    order = np.argsort(-observed)
    greatest = np.maximum.accumulate(statistic[order[::-1]], axis=0)[::-1]
    shares = (greatest >= observed[order, None] - 1e-9).mean(axis=1)
    adjusted = np.empty(len(observed))
    adjusted[order] = np.maximum.accumulate(shares)
    return adjusted


def least_p_value(n: int, m: int) -> float:
    """The smallest that `adjusted_p_values` can give: with 3 repeats a side it is 0.1, with 4 it is 0.03."""
    return (2 if n == m else 1) / math.comb(n + m, n)


def _labellings(total: int, count: int) -> NDArray[np.float64]:
    """[ways, total] of 0 and 1: which columns count as before. First as they are, then all other ways, or a random choice of them."""
    first = (np.arange(total) < count).astype(np.float64)
    if math.comb(total, count) > MOST_PERMUTATIONS:
        random = np.random.default_rng(SEED)
        return np.stack([first, *(random.permutation(first) for _ in range(MOST_PERMUTATIONS))])
    chosen = np.array(list(itertools.combinations(range(total), count)))
    ways = np.zeros((len(chosen), total))
    np.put_along_axis(ways, chosen, 1.0, axis=1)
    return ways


def _changes(values: NDArray[np.float64], ways: NDArray[np.float64]) -> NDArray[np.float64]:
    """[figures, ways]: difference of the two sides' means, in standard errors; 0 where a side has fewer than two values."""
    known = np.isfinite(values)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(1, known.sum(axis=1))
    centred = np.where(known, values - mean[:, None], 0.0)
    counts, sums, squares = [], [], np.zeros((len(values), len(ways)))
    for side in (ways.T, 1 - ways.T):
        counts.append(known.astype(np.float64) @ side)
        sums.append(centred @ side)
        squares += centred**2 @ side - sums[-1] ** 2 / np.maximum(1, counts[-1])
    variance = np.maximum(0.0, squares) / np.maximum(1, counts[0] + counts[1] - 2) + SMALLEST_SPREAD**2
    error = np.sqrt(variance * sum(1 / np.maximum(1, count) for count in counts))
    means = [total / np.maximum(1, count) for total, count in zip(sums, counts, strict=True)]
    change: NDArray[np.float64] = np.where((counts[0] > 1) & (counts[1] > 1), np.abs(means[1] - means[0]) / error, 0.0)
    return change
