"""When an idle engine should wait for more rows: where the measured rule says it pays, or as long as an operator says.

With n rows queued and L(b) = a + c*b, waiting for one more row costs each of the n rows the wait plus c, and saves the newcomer
a batch of its own. It lowers the sum of latencies only where the next row is expected within (a - n*c) / (n + 1).
"""

from resnet_server.batching.cost_model import CostModel

LEARN = 0.02  # weight of the newest gap: about the last 50 arrivals
LEAST = 1e-4  # seconds; a timer is no finer
LONGEST = 4.0  # batches' fixed cost: a longer gap teaches no more, or one pause of an hour would switch the rule off for long


class DelayRule:
    """`max_delay` in seconds replaces the rule; 0 never waits; None: as measured."""

    def __init__(self, cost: CostModel | None, max_delay: float | None) -> None:
        self._cost = cost
        self._max_delay = max_delay
        self._gap = float("inf")
        self._last = float("-inf")

    def arrived(self, now: float) -> None:
        """Note an arrival."""
        gap = now - self._last
        if self._cost is not None and self._last > float("-inf"):
            gap = min(gap, LONGEST * self._cost.fixed)
        self._gap = gap if self._gap == float("inf") else self._gap + LEARN * (gap - self._gap)
        self._last = now

    def leaves_at(self, rows: int, oldest: float) -> float:
        """When a batch of `rows`, whose oldest row came at `oldest`, should leave; the past: now."""
        if self._max_delay is not None:
            return oldest + self._max_delay
        if self._cost is None:
            return oldest
        worth = (self._cost.fixed - rows * self._cost.per_row) / (rows + 1)
        return self._last + worth if worth > LEAST and self._gap < worth else oldest
