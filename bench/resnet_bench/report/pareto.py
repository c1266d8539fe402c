"""The Pareto front: models to which no other is better in one respect and at least as good in the other."""

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, value) that none dominates, by ascending cost: less cost and more value are better."""
    kept: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            best = points[index][1]
            kept.append(index)
    return kept
