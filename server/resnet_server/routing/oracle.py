"""What nobody can do better: an upper bound for a trace, by dynamic programming with all arrivals known beforehand.

All that holds a real server back is left out: engines are one that is as fast as all together, batches cost nothing but their rows,
each row costs what it costs in a full batch and to serve, rounded down to a grid, and every deadline of the future is known. Calls are
answered in the order of their deadlines or not at all; for equal times to the deadline, that is no restriction. The sum of the
accuracies of what is answered in time is maximised, so that a call is left out only where it would cost more than it gives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from resnet_server.routing.member import Member
from resnet_server.routing.simulator import Times, Workshop

STEPS = 24
"""Of the grid to a row of the cheapest network: its cost, rounded down, is at most a 24th too small."""
NEVER = -np.inf


@dataclass(frozen=True)
class Bound:
    """Calls offered and, of the best way through, those in time and their mean accuracy."""

    offered: int
    in_time: int
    accuracy: float

    @property
    def attainment(self) -> float:
        """Share of all offered, 0..1."""
        return self.in_time / max(1, self.offered)


def bound(members: Sequence[Member], workshop: Workshop, arrivals: Times) -> Bound:
    """The best that could be done with a trace of single images, seconds ascending."""
    rows = [(member.seconds(workshop.max_batch) / workshop.max_batch + workshop.serving) / workshop.engines for member in members]
    step = min(rows) / STEPS
    costs = [int(row / step) for row in rows]
    room = int((workshop.deadline - workshop.way_back) / step)
    value, count = _at_rest(room), np.zeros(room + 1)
    at = 0
    for arrival in np.floor(arrivals / step).astype(np.int64).tolist():
        value, count = _pass(value, count, arrival - at)
        value, count = _answer(value, count, costs, members, room)
        at = arrival
    best = int(np.argmax(value))
    in_time = round(float(count[best]))
    return Bound(len(arrivals), in_time, float(value[best]) / max(1, in_time))


def _at_rest(room: int) -> NDArray[np.float64]:
    """By backlog in steps: there is none."""
    value = np.full(room + 1, NEVER)
    value[0] = 0.0
    return value


def _pass(value: NDArray[np.float64], count: NDArray[np.float64], steps: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """So many steps of work are done."""
    if steps <= 0:
        return value, count
    done = min(steps, len(value) - 1)
    best = int(np.argmax(value[: done + 1]))
    later, later_count = np.full(len(value), NEVER), np.zeros(len(value))
    later[: len(value) - done], later_count[: len(value) - done] = value[done:], count[done:]
    if value[best] > later[0]:
        later[0], later_count[0] = value[best], count[best]
    return later, later_count


def _answer(
    value: NDArray[np.float64], count: NDArray[np.float64], costs: Sequence[int], members: Sequence[Member], room: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A call comes: it is left out, or answered by a member whose work still ends in time."""
    found, found_count = value.copy(), count.copy()
    for cost, member in zip(costs, members, strict=True):
        if cost > room:
            continue
        gained = value[: room + 1 - cost] + member.accuracy
        better = gained > found[cost:]
        found[cost:][better] = gained[better]
        found_count[cost:][better] = count[: room + 1 - cost][better] + 1
    return found, found_count
