"""How much comes: rows a second, exponentially weighted over WINDOW seconds, by the times given; no timer."""

from math import exp

WINDOW = 0.5
"""Seconds: long enough for some dozens of calls, short enough to be past a burst half a second after it."""


class ArrivalRate:
    """Starts at nothing, and reaches a new rate within three windows."""

    def __init__(self) -> None:
        self._rate = 0.0
        self._at: float | None = None

    def arrived(self, now: float, rows: int) -> None:
        """Note rows that came at `now`."""
        self._rate = self.rows_per_second(now) + rows / WINDOW
        self._at = now

    def rows_per_second(self, now: float) -> float:
        """As of `now`."""
        return 0.0 if self._at is None else self._rate * exp(-max(0.0, now - self._at) / WINDOW)
