"""The highest rate that a server sustains within the SLO: bisection over short runs, then a longer one that confirms the rate found."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from resnet_bench.sample import Sample

Verdict = Literal["met", "near", "missed", "void"]

TOLERANCE = 1.05  # the search ends when a rate that misses is at most 5 % above one that meets
FIRST_STEP, LATER_STEP = 1.3, 1.1
GROWTH = 1.6  # of a step's logarithm, while no end is found
MAX_PROBES = 10
LOWEST_SHARE = 1 / 16  # of the first rate; below it no rate is looked for
CLEARLY = 0.9  # goodput below it is a miss, whatever the machine did; above it, a second and a third run decide
MOST_CONFIRMATIONS = 9


@dataclass(frozen=True)
class Found:
    """`rate` met the SLO in short runs, `confirmed` (that, or a lower one) in a long one; None if none did.

    `bound_by_generator` where a void run ended the search above it.
    """

    rate: float | None
    confirmed: float | None
    bound_by_generator: bool


def verdict(sample: Sample) -> Verdict:
    """What a run says of its rate."""
    if sample.met:
        return "met"
    if not sample.missed:
        return "void"
    return "missed" if sample.service_goodput < CLEARLY else "near"


def capacity(probe: Callable[[float], Verdict], confirm: Callable[[float], Verdict], first: float, step: float = FIRST_STEP) -> Found:
    """Search with `probe` from `first` on, and let `confirm` have the last word: where it misses, a lower rate is tried."""
    rate, bound = search(probe, first, step)
    lower = rate
    for attempt in range(MOST_CONFIRMATIONS):
        if lower is None or confirm(lower) == "met":
            return Found(rate, lower, bound)
        lower /= TOLERANCE ** (attempt + 1)  # ever larger steps: 5, 10, 16, 22 % and so on
    return Found(rate, None, bound)


def search(probe: Callable[[float], Verdict], first: float, step: float = FIRST_STEP) -> tuple[float | None, bool]:
    """The highest rate at which `probe` says "met", None if there is none, and whether a void run was its upper end.

    Goes up or down by `step`, and by more each time, until one rate meets and one does not, then halves the gap (of the logarithms)
    until it is 5 %. A near miss may be a moment's disturbance: of three runs two decide. A void probe counts as an upper end.
    """
    low, high, bound = 0.0, 0.0, False
    rate = first
    for _ in range(MAX_PROBES):
        found = settled(probe, rate)
        if found == "met":
            low = rate
        else:
            high, bound = rate, found == "void"
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
    return low or None, bound


def settled(probe: Callable[[float], Verdict], rate: float) -> Verdict:
    """One run's verdict, or that of two in three where the first misses by little."""
    first = probe(rate)
    if first != "near":
        return first
    again = [probe(rate)]
    if again[0] == "met":
        again.append(probe(rate))
    return "met" if again.count("met") > 1 else "missed"


def seconds_for(rate: float, calls: int, least: float, most: float) -> float:
    """How long to measure `rate` calls a second, so that so many calls come, within bounds."""
    return min(most, max(least, calls / rate))
