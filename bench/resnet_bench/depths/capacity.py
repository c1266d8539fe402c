"""The highest rate that a server sustains within the SLO: bisection over rates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["met", "missed", "void"]

TOLERANCE = 1.05  # the search ends when a rate that misses is at most 5 % above one that meets
FIRST_STEP = 1.3
GROWTH = 1.6  # of a step's logarithm, while no end is found
MAX_PROBES = 10
LOWEST_SHARE = 1 / 16  # of the first rate; below it no rate is looked for


@dataclass(frozen=True)
class Found:
    """The highest rate that met the SLO, None if none did; `bound_by_generator` where a void run ended the search above it."""

    rate: float | None
    bound_by_generator: bool


def search(probe: Callable[[float], Verdict], first: float, step: float = FIRST_STEP) -> Found:
    """Look for the highest rate at which `probe` says "met", from `first` on.

    Goes up or down by `step`, and by more each time, until one rate meets and one does not, then halves the gap (of the logarithms)
    until it is 5 %. A void probe counts as an upper end: nothing is known above it.
    """
    low, high, bound = 0.0, 0.0, False
    rate = first
    for _ in range(MAX_PROBES):
        verdict = probe(rate)
        if verdict == "met":
            low = rate
        else:
            high, bound = rate, verdict == "void"
        if low and high:
            if high <= TOLERANCE * low:
                break
            rate = (low * high) ** 0.5
        elif low:
            rate, step = low * step, step**GROWTH
        elif high / step >= first * LOWEST_SHARE:
            rate, step = high / step, step**GROWTH
        else:
            break
    return Found(low or None, bound)
