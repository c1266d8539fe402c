"""Which network answers the next batch: the most accurate one that is in time for this batch, for those behind it, and for those to come.

Decided when a batch leaves, as SuperServe does (Khare et al., NSDI 2025), by costs that are learned from the batches (costs.py).
The rate of arrivals gives a level, which changes rarely; what waits says for each batch how far from it the network may be: deeper
while the queue is short, shallower as it grows. So a load between two networks is answered by both, and all the time that there is
gets used. docs/decisions/0010-depth-routing.md has the alternatives and what they reached.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from resnet_server.routing.costs import Costs
from resnet_server.routing.member import Member
from resnet_server.routing.rates import ArrivalRate

MARGIN = 1.0  # mean deviations of the factor that are kept free before a deadline
STAY, RISE = 1.0, 0.9  # load that a level may have to keep it, and that the next one up may have to be taken
DWELL_SECONDS, LONGEST_DWELL = 0.1, 10.0  # on a level before the next one up; FLAP times as long where the last rise did not hold
FLAP = 4.0
CALM = 0.6  # load of the next level up that leaves no doubt
ROOM, LEAN, MOST_ROOM = 0.35, 1.2, 0.7  # of the time left, what may be spoken for: on the level, by its cost over another's, at most
HORIZON_SECONDS = 0.5  # of the time left that counts, without a deadline too: nobody wants a queue of minutes
GUARD_SECONDS = 0.001  # between the end of a batch and the answer's leaving
NEVER, NEVER_BEFORE = float("inf"), float("-inf")
MOST_RANGES = 1024  # of bounds that callers come up with, for which the accepted levels are kept


class Reason(Enum):
    """What decided, as callers are told."""

    DEEPEST = "the most accurate network is in time"
    SLACK = "a deeper network would miss the most urgent deadline"
    BACKLOG = "a deeper network would make those that wait miss theirs"
    LOAD = "more requests come than a deeper network can answer"
    FLOOR = "the caller asked for at least this accuracy"
    LIMIT = "the caller asked for at most this depth"


@dataclass(slots=True)  # not frozen, which would cost as much as the rest of the decision
class Waiting:
    """What a decision is made from, all of it as of one moment.

    `slack`: seconds until the most urgent deadline of the batch; `last_slack`: of the last of those behind it; infinite
    without a deadline. `rows` of the batch, of so many `calls`; `behind` rows that wait behind it; `engines` that are up.
    """

    rows: int
    behind: int = 0
    slack: float = NEVER
    last_slack: float = NEVER
    engines: float = 1
    min_accuracy: float = 0.0
    max_depth: int = 0
    calls: int = 1


@dataclass(frozen=True)
class Decision:
    """The member that answers, and why not a more accurate one; `level`: its place in the front."""

    member: Member
    reason: Reason
    level: int


class DepthPolicy:
    """Chooses among `members`, a Pareto front from the cheapest to the most accurate; `target`: seconds, where no deadline is given.

    `max_batch` rows are the most that a batch has: what a member can answer under load is counted in such batches. `places`: rows
    that may wait.
    """

    def __init__(self, members: Sequence[Member], max_batch: int, target: float | None = None, places: float = NEVER) -> None:
        if not members:
            raise ValueError("members: none given; expected at least one")
        self.target = target
        self._max_batch, self._places = max_batch, places
        self._ranges: dict[tuple[float, int], tuple[int, int]] = {}
        self.costs = Costs(members[0].seconds(max_batch) / max_batch)
        self.replan(members)
        self._rate = ArrivalRate()
        self._top = self._level = len(self.members) - 1
        self._changed = self._rose = NEVER_BEFORE
        self._dwell = DWELL_SECONDS

    @property
    def level(self) -> int:
        """Place in the front of the most accurate member that could answer all that comes: what batches lean on, and rarely changes."""
        return self._level

    def replan(self, members: Sequence[Member]) -> None:
        """Take the costs of another measurement of the same members; what was learned of the load stays."""
        self._loaded = [member.seconds(self._max_batch) / self._max_batch for member in members]
        self._rooms = [[min(MOST_ROOM, ROOM * (own / other) ** LEAN) for other in self._loaded] for own in self._loaded]
        self.members = tuple(members)
        self.costs.replan(self._loaded[0])
        self._decisions = [{reason: Decision(member, reason, level) for reason in Reason} for level, member in enumerate(self.members)]

    def arrived(self, now: float, rows: int) -> None:
        """Note rows that came at `now`."""
        self._rate.arrived(now, rows)

    def eligible(self, min_accuracy: float, max_depth: int) -> tuple[Member, ...]:
        """Members that a request accepts; it is to be refused where there is none."""
        return tuple(m for m in self.members if m.accuracy >= min_accuracy and (not max_depth or m.depth <= max_depth))

    def seconds(self, member: Member, rows: float) -> float:
        """For a batch of `rows`, as the machine is now, with what serving them takes."""
        return self.costs.seconds(member, rows)

    def least_seconds(self, rows: int, min_accuracy: float = 0.0, max_depth: int = 0) -> float:
        """Of the cheapest member that a request accepts, on an idle engine; infinite where there is none."""
        return min((self.seconds(member, rows) for member in self.eligible(min_accuracy, max_depth)), default=NEVER)

    def choose(self, now: float, waiting: Waiting) -> Decision:
        """The most accurate member in time; where none is, the cheapest that is accepted.

        Raises ValueError where no member is accepted.
        """
        low, high = self._accepted(waiting)
        standing = self._standing(now, waiting.engines)
        reason = Reason.DEEPEST if high == self._top else Reason.LIMIT
        level, rooms = high, self._rooms[standing]
        calm = not waiting.behind and waiting.calls <= waiting.engines  # many calls at once: a burst, of which more may come
        while level > 0:
            obstacle = self._obstacle(level, waiting, NEVER if calm and level <= standing else rooms[level])
            if obstacle is None:
                break
            reason = Reason.LOAD if level > standing and obstacle is Reason.BACKLOG else obstacle
            level -= 1
        return self._decisions[level][reason] if level >= low else self._decisions[low][Reason.FLOOR]

    def _accepted(self, waiting: Waiting) -> tuple[int, int]:
        """The lowest and the highest level that the batch accepts: on a front, all between are accepted, too."""
        if not (waiting.max_depth or waiting.min_accuracy):
            return 0, self._top
        known = self._ranges.get((waiting.min_accuracy, waiting.max_depth))
        return self._find_range(waiting.min_accuracy, waiting.max_depth) if known is None else known

    def _find_range(self, min_accuracy: float, max_depth: int) -> tuple[int, int]:
        accepted = self.eligible(min_accuracy, max_depth)
        if not accepted:
            raise ValueError(f"min_accuracy: {min_accuracy:g} with max_depth {max_depth}; no member has both")
        if len(self._ranges) >= MOST_RANGES:
            self._ranges.clear()
        found = self.members.index(accepted[0]), self.members.index(accepted[-1])
        self._ranges[min_accuracy, max_depth] = found
        return found

    def _standing(self, now: float, engines: float) -> int:
        """The level that what comes can be answered with for long: down at once, up one step at a time."""
        costs, rate = self.costs, self._rate.rows_per_second(now) / engines
        busy, serving = rate * costs.slow_down, rate * costs.serving
        level = self._level
        while level > 0 and busy * self._loaded[level] + serving > STAY:
            level -= 1
        if level == self._level < self._top:
            level += self._rises(now, busy * self._loaded[level + 1] + serving)
            if level > self._level:
                self._level, self._changed = level, now
        elif level < self._level:
            self._fall(now, level)
        return level

    def _fall(self, now: float, level: int) -> None:
        if now - self._rose < LONGEST_DWELL:  # the last rise did not hold: this load lies between two levels
            self._dwell = min(LONGEST_DWELL, FLAP * self._dwell)
        self._level, self._changed = level, now

    def _rises(self, now: float, load: float) -> bool:
        if load <= CALM:
            self._dwell = DWELL_SECONDS
        rises = load <= RISE and now - self._changed >= self._dwell
        if rises:
            self._rose = now
        return rises

    def _obstacle(self, level: int, waiting: Waiting, room: float) -> Reason | None:
        """What makes a batch on this level too late for itself, or leaves those behind it, or about to come, too little room."""
        slack, last = waiting.slack, min(waiting.last_slack if waiting.behind else waiting.slack, HORIZON_SECONDS)
        if self.target is not None:
            slack, last = min(slack, self.target), min(last, self.target)
        costs = self.costs
        slowly = costs.slow_down + MARGIN * costs.deviation
        ends = slowly * self.members[level].seconds(waiting.rows) + costs.serving * waiting.rows + GUARD_SECONDS
        if ends > slack:
            return Reason.SLACK
        rest = (costs.slow_down * self._loaded[0] + costs.serving) * waiting.behind / waiting.engines
        return Reason.BACKLOG if ends + rest > room * last or waiting.behind > room * self._places else None
