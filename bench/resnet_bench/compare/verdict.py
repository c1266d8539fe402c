"""Whether a figure changed by more than its repeats differ among themselves."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from resnet_bench.schema import ModelResult, Point, Spread

Verdict = Literal["better", "worse", "same", "unknown"]

SMALLEST = 0.02  # of the figure: less is not a change, however still the machine was
LEAST_REPEATS = 2


@dataclass(frozen=True)
class Figure:
    """Something to compare: how to find it, and whether more of it is better."""

    name: str
    more_is_better: bool
    find: Callable[[ModelResult], Spread | None]


@dataclass(frozen=True)
class Change:
    """One figure of one model in both results; `factor` is after over before."""

    model: str
    figure: str
    before: Spread
    after: Spread
    verdict: Verdict

    @property
    def factor(self) -> float:
        """After over before, of the medians."""
        return self.after.median / self.before.median if self.before.median else 1.0


def judge(before: Spread, after: Spread, more_is_better: bool, repeats: int) -> Verdict:
    """Better or worse where the ranges of the repeats do not overlap and the medians differ by more than 2 %; else the same.

    With one repeat there is no range, and nothing can be said.
    """
    if repeats < LEAST_REPEATS:
        return "unknown"
    overlap = before.low <= after.high and after.low <= before.high
    if overlap or abs(after.median - before.median) <= SMALLEST * abs(before.median):
        return "same"
    return "better" if (after.median > before.median) == more_is_better else "worse"


def of_point(kind: str, find: Callable[[Point], Spread | None]) -> Callable[[ModelResult], Spread | None]:
    """Find a figure of a kind of load."""

    def found(model: ModelResult) -> Spread | None:
        point = model.point(kind)
        return None if point is None else find(point)

    return found


FIGURES = (
    Figure("raw ONNX Runtime, images/s", True, lambda model: model.raw_throughput),
    Figure("capacity within the SLO, images/s", True, lambda model: model.capacity.images if model.capacity else None),
    Figure("saturated throughput, images/s", True, of_point("saturation", lambda point: point.throughput)),
    Figure("one call alone, p50 ms", False, of_point("single", lambda point: point.p50_ms)),
    Figure("one call alone, p99 ms", False, of_point("single", lambda point: point.p99_ms)),
    Figure("CPU seconds per 1,000 images at 80 %", False, of_point("busy", lambda point: point.cpu_seconds)),
)
"""What is compared in every result; p99 at 50 % and 80 % of capacity is at another rate where the capacity changed, so it is not."""

POINT_FIGURES: tuple[tuple[str, bool, Callable[[Point], Spread | None]], ...] = (
    ("images/s", True, lambda point: point.throughput),
    ("p50 ms", False, lambda point: point.p50_ms),
    ("p99 ms", False, lambda point: point.p99_ms),
    ("CPU seconds per 1,000 images", False, lambda point: point.cpu_seconds),
)
"""What is compared of each load that both results were asked for."""
