"""Arrival times to judge a policy by, seconds from 0, all from a seed.

The forms are those of the literature: Poisson steps; gamma gaps with a given squared coefficient of variation (SuperServe, NSDI
2025); a square burst; and a long trace with the measured shape of a social network's traffic: seconds that vary far more than
Poisson's, minutes and hours that swing.
"""

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


def poisson(rate: float, seconds: float, seed: int) -> Times:
    """Independent arrivals, `rate` a second."""
    random = np.random.default_rng(seed)
    count = random.poisson(rate * seconds)
    return np.sort(random.uniform(0.0, seconds, count))


def steps(rates: tuple[float, ...], seconds_each: float, seed: int) -> Times:
    """One Poisson rate after the other."""
    parts = [index * seconds_each + poisson(rate, seconds_each, seed + index) for index, rate in enumerate(rates)]
    return np.concatenate(parts)


def gamma(rate: float, cv2: float, seconds: float, seed: int) -> Times:
    """Gaps from a gamma distribution of squared coefficient of variation `cv2`: 1 is Poisson, more is burstier."""
    random = np.random.default_rng(seed)
    gaps = random.gamma(1 / cv2, cv2 / rate, int(1.2 * rate * seconds) + 100)
    times = np.cumsum(gaps)
    return times[times < seconds]


def square_burst(rate: float, factor: float, before: float, burst: float, after: float, seed: int) -> Times:
    """`rate`, then `factor` times as much for `burst` seconds, then `rate` again."""
    first, second = poisson(rate, before, seed), poisson(factor * rate, burst, seed + 1)
    return np.concatenate((first, before + second, before + burst + poisson(rate, after, seed + 2)))


def social(mean: float, seconds: float, seed: int, day: float = 86_400.0) -> Times:
    """A day's swing between a third and 2.8 times the mean hour, minutes that swing, and seconds overdispersed as measured.

    Inside an hour the variance of one-second counts is 3.5 times their mean in the median; a gamma mixture of Poisson counts with
    a slowly changing level gives that. Peak seconds reach some 6 times the mean. `day`: seconds of a day, to press it together.
    """
    random = np.random.default_rng(seed)
    count = int(seconds)
    hours = np.maximum(0.5, np.exp(1.45 * np.sin(2 * np.pi * np.arange(count) / day - 1.2)))
    minutes = np.repeat(random.lognormal(-0.02, 0.2, count // 60 + 1), 60)[:count]
    level = mean * hours * minutes / np.mean(hours * minutes)
    dispersion = 2.5  # variance over mean, less 1
    counts = random.poisson(random.gamma(level / dispersion, dispersion))
    return np.sort(np.repeat(np.arange(count), counts) + random.uniform(0.0, 1.0, counts.sum()))
