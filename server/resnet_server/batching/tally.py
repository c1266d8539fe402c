"""Counts that several front ends of one model keep in common, so that their bounds are those of one process."""

from typing import Protocol

RUNNING = 0
"""Rows at engines; rows that wait are counted under their priority."""
COUNTS = 4


class Tally(Protocol):
    """What this process counts, told to the others, and what the others count."""

    def tell(self, count: int, value: int) -> None:
        """Say how many rows this process has of a kind: RUNNING, or a priority."""

    def others(self, count: int) -> int:
        """Rows of a kind that the other processes have."""


class Alone:
    """There are no others."""

    def tell(self, count: int, value: int) -> None:
        """Nobody listens."""

    def others(self, count: int) -> int:
        """None."""
        return 0
