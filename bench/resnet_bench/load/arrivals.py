"""When calls are meant to be sent."""

import numpy as np
from numpy.typing import NDArray

from resnet_bench.load.spec import Load


def schedule(load: Load, index: int = 0, count: int = 1) -> NDArray[np.float64]:
    """Intended send times in seconds from the start, ascending, for generator `index` of `count`; `load` is its part.

    Poisson: independent exponential gaps, drawn from `load.seed`, so that every model meets the same bursts. Constant: equal gaps,
    the generators in turn.
    """
    total = load.warm_up + load.seconds
    gap = 1 / load.rate
    if load.arrivals == "constant":
        return np.arange(gap * index / count, total, gap)
    random = np.random.default_rng(load.seed)
    times = np.cumsum(random.exponential(gap, size=int(total / gap + 6 * (total / gap) ** 0.5 + 10)))
    return times[times < total]
