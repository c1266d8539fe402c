"""The networks that a group may answer with, and which of them are worth having."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """One certified network in one precision.

    A batch of b rows takes `fixed` + `per_row` * b seconds on one engine. `accuracy` is a share, 0..1, on labelled images;
    `depth` is the number of weighted layers.
    """

    name: str
    precision: str
    depth: int
    accuracy: float
    fixed: float
    per_row: float

    def seconds(self, rows: float) -> float:
        """For a batch of `rows` on one engine, as planned."""
        return self.fixed + self.per_row * rows

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


def pareto_front(members: Sequence[Member], rows: int) -> tuple[Member, ...]:
    """From the cheapest to the most accurate, without those that cost no less than a more accurate one in batches of `rows`."""
    front: list[Member] = []
    for member in sorted(members, key=lambda member: (member.seconds(rows), -member.accuracy)):
        if not front or member.accuracy > front[-1].accuracy:
            front.append(member)
    return tuple(front)
