"""The depth policy in front of a batcher: what one knows of the queue and the other of networks."""

from dataclasses import dataclass

from resnet_server.batching.chooser import ANY, NEVER, Choice, ChosenAnswer, Demand, Lane, Leaving
from resnet_server.batching.waiter import Answer
from resnet_server.errors import InvalidRequestError
from resnet_server.models.group import GroupInfo
from resnet_server.models.served_model import ModelInfo
from resnet_server.routing.policy import HORIZON_SECONDS, DepthPolicy, Reason, Waiting

NO_TIME = 1e-9  # seconds
MOST_DEMANDS = 1024
"""Different ones that are kept with their lane; callers invent them."""
STATED = {reason: reason.name.lower() for reason in Reason}


@dataclass(frozen=True, eq=False)
class MemberChoice(Choice):
    """Who answers, as callers are told, and why in words."""

    info: ModelInfo
    accuracy: float
    why: str


def choice_of(answer: Answer) -> MemberChoice | None:
    """Which member gave an answer, and why; None where there is only one network."""
    choice = answer.choice if isinstance(answer, ChosenAnswer) else None
    return choice if isinstance(choice, MemberChoice) else None


class DepthChooser:
    """See `batching.chooser.Chooser`, for the members of a group.

    `wide`: a batch that is alone has more threads than planned for, and says nothing of the slow-down. `places`: rows that may wait.
    """

    def __init__(self, group: GroupInfo, wide: bool = False, places: float = NEVER) -> None:
        self.members = group.routed()
        self._target, self._wide, self._max_batch = group.target, wide, group.plan.batch
        self._policy = DepthPolicy(self.members, self._max_batch, places=places)
        self._all = Lane()
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._demands: dict[Demand, Lane] = {ANY: self._all}
        self._choices = [
            {reason: MemberChoice(level, STATED[reason], info, group.accuracies[level], reason.value) for reason in Reason}
            for level, info in enumerate(group.members)
        ]
        self._rests: dict[Choice, Lane] = {
            choice: Lane(times=self._times(choice.network), choice=choice) for level in self._choices for choice in level.values()
        }
        self._levels = {member: level for level, member in enumerate(self.members)}

    @property
    def slow_down(self) -> float:
        """How many times the planned seconds batches take now."""
        return self._policy.costs.slow_down

    @property
    def serving(self) -> float:
        """Seconds of an engine that a row costs beside its batch."""
        return self._policy.costs.serving

    def replan(self, group: GroupInfo) -> None:
        """Take the costs of another measurement of the same members."""
        self._policy.replan(group.routed())
        self.members = self._policy.members
        self._levels = {member: level for level, member in enumerate(self.members)}

    def lane(self, demand: Demand) -> Lane:
        """See `Chooser.lane`."""
        known = self._demands.get(demand)
        if known is None:
            known = self._lane(demand)
            if len(self._demands) >= MOST_DEMANDS:
                self._demands = {ANY: self._all}
            self._demands[demand] = known
        return known

    def rest(self, choice: Choice) -> Lane:
        """See `Chooser.rest`."""
        return self._rests[choice]

    def arrived(self, now: float, rows: int) -> None:
        """See `Chooser.arrived`."""
        self._policy.arrived(now, rows)

    def objective(self, enqueued_at: float) -> float:
        """See `Chooser.objective`."""
        return NEVER if self._target is None else enqueued_at + self._target

    def choose(self, now: float, leaving: Leaving) -> Choice:
        """See `Chooser.choose`."""
        behind, last = self._binding(leaving)
        demand = leaving.lane.demand
        waiting = Waiting(leaving.rows, behind, leaving.slack, last, leaving.engines, demand.min_accuracy, demand.max_depth, leaving.calls)
        decision = self._policy.choose(now, waiting)
        return self._choices[decision.level][decision.reason]

    def seconds(self, choice: Choice, rows: int) -> float:
        """See `Chooser.seconds`."""
        return self._policy.seconds(self.members[choice.network], rows)

    def times(self, choice: Choice, rows: int) -> float:
        """See `Chooser.times`."""
        return self.members[choice.network].seconds(rows) / self.members[0].seconds(rows)

    def surplus(self, choice: Choice, rows: int) -> float:
        """See `Chooser.surplus`."""
        return self.seconds(choice, rows) - self._policy.seconds(self.members[0], rows)

    def longest(self, rows: int) -> float:
        """See `Chooser.longest`."""
        return self.members[-1].seconds(rows) / self.members[0].seconds(rows)

    def observe(self, choice: Choice, rows: int, seconds: float, alone: bool, held: float | None) -> None:
        """See `Chooser.observe`."""
        member = self.members[choice.network]
        if held is not None:
            self._policy.costs.held(member, rows, held)
        elif not (self._wide and alone):
            self._policy.costs.computed(member, rows, seconds)

    def _binding(self, leaving: Leaving) -> tuple[int, float]:
        """Of those behind, the rows up to the deadline of whose time most is spoken for; all of them, where a batch has none itself.

        Who gave a deadline goes first, so that those without are not in their way.
        """
        behind = leaving.behind
        if leaving.slack == NEVER and leaving.waiting:
            behind = [*behind, (leaving.waiting, NEVER)]
        if len(behind) < 2:
            return behind[0] if behind else (0, NEVER)
        least = self._policy.seconds(self.members[0], leaving.rows)
        row = self._policy.seconds(self.members[0], self._max_batch) / (self._max_batch * leaving.engines)
        return max(behind, key=lambda span: (least + row * span[0]) / max(NO_TIME, min(span[1], HORIZON_SECONDS)))

    def _lane(self, demand: Demand) -> Lane:
        """Of the most accurate members that are accepted, as far as there is no gap between them."""
        accepted = self._policy.eligible(demand.min_accuracy, demand.max_depth)
        if not accepted:
            raise InvalidRequestError(self._refusal(demand))
        low = high = self._levels[accepted[-1]]
        while low and self.members[low - 1] in accepted:
            low -= 1
        if (low, high) == (0, len(self.members) - 1):
            return self._all
        lane = self._lanes.get((low, high))
        return self._new_lane(low, high) if lane is None else lane

    def _new_lane(self, low: int, high: int) -> Lane:
        """Of the `low`-th to the `high`-th member: there are a few, whatever callers come up with."""
        top = len(self.members) - 1
        depth = max(member.depth for member in self.members[low : high + 1]) if high < top else 0
        lane = Lane(Demand(self.members[low].accuracy if low else 0.0, depth), self._times(low))
        self._lanes[low, high] = lane
        return lane

    def _times(self, level: int) -> float:
        return min(self.members[level].seconds(rows) / self.members[0].seconds(rows) for rows in (1, self._max_batch))

    def _refusal(self, demand: Demand) -> str:
        best, shallowest = self.members[-1], min(self.members, key=lambda member: member.depth)
        if demand.min_accuracy > best.accuracy:
            return f"min_accuracy: {demand.min_accuracy:g}; expected at most {best.accuracy:g}, that of {best}"
        if demand.max_depth < shallowest.depth:
            return f"max_depth: {demand.max_depth}; expected at least {shallowest.depth}, that of {shallowest}"
        served = ", ".join(f"{member} ({member.accuracy:g}, depth {member.depth})" for member in self.members)
        return f"min_accuracy: {demand.min_accuracy:g} with max_depth {demand.max_depth}: no network has both; served: {served}"
