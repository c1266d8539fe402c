"""Intervals and tests for counts of right and wrong answers, and for rankings; all by SciPy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, in the value's own unit."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def error_interval(wrong: int, n: int) -> Interval:
    """Percent wrong of `n` independent images with Wilson's score interval (E. B. Wilson 1927)."""
    found = stats.binomtest(wrong, n).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(100 * wrong / n, 100 * float(found.low), 100 * float(found.high))


def difference_of_errors(first: float, second: float, n: int) -> Interval:
    """First less second, percent wrong of `n` images each, with Newcombe's interval (1998, method 10).

    It is for independent samples; of answers to the same images, which go together, it is too wide rather than too narrow.
    """
    one, other = (error_interval(round(error * n / 100), n) for error in (first, second))
    difference = first - second
    low = difference - float(np.hypot(one.value - one.low, other.high - other.value))
    high = difference + float(np.hypot(one.high - one.value, other.value - other.low))
    return Interval(difference, low, high)


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent draws with Student's interval; of one draw the interval is unbounded."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, -np.inf, np.inf)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, mean - half, mean + half)


def mean_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Mean of `first` less that of `second`, with Welch's interval (1947); of fewer than two draws each it is unbounded."""
    difference = float(np.mean(first) - np.mean(second))
    if min(len(first), len(second)) < 2:
        return Interval(difference, -np.inf, np.inf)
    found = stats.ttest_ind(first, second, equal_var=False).confidence_interval(CONFIDENCE)
    return Interval(difference, float(found.low), float(found.high))


@dataclass(frozen=True)
class Paired:
    """Two networks on the same images: images that only the first, only the second got wrong; difference in points; exact p."""

    only_first: int
    only_second: int
    difference: Interval
    p: float


def compare_paired(first_wrong: NDArray[np.bool_], second_wrong: NDArray[np.bool_]) -> Paired:
    """McNemar's exact test (1947) of the errors, first minus second; interval of the difference in points after Agresti and Min (2005)."""
    n = len(first_wrong)
    b, c = int((first_wrong & ~second_wrong).sum()), int((~first_wrong & second_wrong).sum())
    p = float(stats.binomtest(b, b + c).pvalue) if b + c else 1.0
    centre, spread = (b - c) / (n + 2), ((b + c + 1) / (n + 2) - ((b - c) / (n + 2)) ** 2) / (n + 2)
    half = float(stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(spread))
    return Paired(b, c, Interval(100 * (b - c) / n, 100 * (centre - half), 100 * (centre + half)), p)


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b (1938): 1 for the same order, -1 for the reverse; 0 where one side does not vary."""
    tau = float(stats.kendalltau(first, second).statistic)
    return 0.0 if np.isnan(tau) else tau


def trend(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """Kendall's tau and its two-sided p of no association; (0, 1) where one side does not vary."""
    found = stats.kendalltau(first, second)
    tau, p = float(found.statistic), float(found.pvalue)
    return (0.0, 1.0) if np.isnan(tau) else (tau, p)
