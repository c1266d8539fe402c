"""Confidence intervals that hold for small counts, with the standard library only.

Clopper and Pearson (1934) for a share, and Tango's score interval (Statistics in Medicine 17, 1998, 891-908) for the change of a
share in pairs. Wald's interval is [0, 0] where no pair differs, and covers 86 % instead of 95 % at three expected pairs.
"""

import math
from collections.abc import Callable
from statistics import NormalDist

STEPS = 60  # halvings of an interval of at most 2: below 1e-17


def binomial_cdf(count: int, trials: int, share: float) -> float:
    """P(X <= count) for X binomial of `trials` and `share`."""
    if share <= 0 or count >= trials:
        return 1.0
    if share >= 1 or count < 0:
        return 0.0
    logs = (math.lgamma(trials + 1), math.log(share), math.log1p(-share))

    def term(k: int) -> float:
        return math.exp(logs[0] - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * logs[1] + (trials - k) * logs[2])

    if count > trials // 2:  # the other tail is the shorter one
        return max(0.0, 1 - math.fsum(term(k) for k in range(count + 1, trials + 1)))
    return min(1.0, math.fsum(term(k) for k in range(count + 1)))


def share_interval(count: int, trials: int, confidence: float) -> tuple[float, float]:
    """Clopper and Pearson's two-sided interval of a share of which `count` of `trials` were seen."""
    tail = (1 - confidence) / 2
    low = 0.0 if count == 0 else root(lambda share: 1 - binomial_cdf(count - 1, trials, share) - tail, 0, 1)
    high = 1.0 if count == trials else root(lambda share: tail - binomial_cdf(count, trials, share), 0, 1)
    return low, high


def paired_interval(gained: int, lost: int, pairs: int, confidence: float) -> tuple[float, float]:
    """Tango's two-sided interval of the change of a share, as a share, where `gained` pairs got right and `lost` got wrong."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    estimate = (gained - lost) / pairs
    low = root(lambda change: z - score(change, gained, lost, pairs), -1, estimate)
    high = root(lambda change: -score(change, gained, lost, pairs) - z, estimate, 1)
    return low, high


def score(change: float, gained: int, lost: int, pairs: int) -> float:
    """Tango's score statistic for a hypothetical change; it falls with it."""
    linear = (2 * pairs - gained + lost) * change - gained - lost
    constant = -lost * change * (1 - change)
    likeliest = (math.sqrt(max(0.0, linear**2 - 8 * pairs * constant)) - linear) / (4 * pairs)
    variance = pairs * (2 * likeliest + change * (1 - change))
    distance = gained - lost - pairs * change
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance) if distance else 0.0


def root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses 0 between `low` and `high`."""
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
