"""One plan for a group: all its members run in the layout and in batches of the size that serve them best together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from resnet_server.planning.plan import UNDISTURBED, Plan, Trial, choose, fit
from resnet_server.routing.member import Member, pareto_front

SEPARATOR = ", "


@dataclass(frozen=True)
class MemberFacts:
    """What is known of a file before it is measured: its accuracy 0..1, its precision, and the multiply-adds of an image (0: unknown)."""

    accuracy: float
    precision: str = ""
    multiply_adds: int = 0


Where = tuple[int, int, int, bool, str]
"""Engines, threads, rows, wide, runtime."""


def label(name: str, precision: str) -> str:
    """Of a member, in trials and plans."""
    return f"{name} {precision}"


def members_of(plan: Plan) -> tuple[str, ...]:
    """The labels of those that answer, from the cheapest."""
    return tuple(plan.precision.split(SEPARATOR))


def costs(plan: Plan, member: str) -> tuple[float, float]:
    """Seconds of a batch of one member in the layout of the plan: `fixed`, and `per_row`."""
    return fit([t for t in plan.trials if t.layout == (member, *plan.layout[1:]) and not t.wide])


def choose_for_group(trials: Sequence[Trial], facts: Mapping[str, MemberFacts], latency_target: float | None, cores: int) -> Plan:
    """The plan that serves the members in the mean (geometric, of their batch times), and the members it is for.

    These are the Pareto front of accuracy and measured cost. With a latency target no batch of any of them takes longer, if that can
    be. Raises ValueError without trials.
    """
    if any(trial.share < UNDISTURBED for trial in trials):
        trials = smoothed(trials, facts)
    front = [member for member in facts if any(trial.precision == member for trial in trials)]
    while True:
        plan = choose(together(trials, front, latency_target), latency_target, cores)
        plan = replace(plan, trials=(*plan.trials, *trials))
        members = [Member(member, "", 0, facts[member].accuracy, *costs(plan, member)) for member in front]
        left = [member.name for member in pareto_front(members, plan.batch)]
        if left == front:
            return plan
        front = left


def smoothed(trials: Sequence[Trial], facts: Mapping[str, MemberFacts]) -> list[Trial]:
    """What others disturbed, made plausible: of networks in one precision, a batch costs in proportion to their multiply-adds.

    Else a disturbance would decide who is a member. The plan is doubtful all the same, and measured again in calm.
    """
    alike: dict[tuple[Where, str], list[float]] = {}
    for trial in trials:
        if adds := facts[trial.precision].multiply_adds:
            alike.setdefault((place(trial), facts[trial.precision].precision), []).append(float(np.log(trial.seconds / adds)))

    def plausible(trial: Trial) -> Trial:
        adds = facts[trial.precision].multiply_adds
        times = alike.get((place(trial), facts[trial.precision].precision)) if adds else None
        return trial if times is None else replace(trial, seconds=adds * float(np.exp(np.mean(times))))

    return [plausible(trial) for trial in trials]


def place(trial: Trial) -> Where:
    """Where and with how many rows it ran."""
    return trial.engines, trial.threads, trial.rows, trial.wide, trial.runtime


def together(trials: Sequence[Trial], members: Sequence[str], latency_target: float | None) -> list[Trial]:
    """A trial of the whole group wherever all its members were tried."""
    by_place: dict[Where, dict[str, Trial]] = {}
    for trial in trials:
        if trial.precision in members:
            by_place.setdefault(place(trial), {})[trial.precision] = trial
    whole = [list(found.values()) for found in by_place.values() if len(found) == len(members)]
    if latency_target is not None:
        whole = [found for found in whole if max(trial.seconds for trial in found) <= latency_target] or whole
    return [_mean(found, SEPARATOR.join(members)) for found in whole]


def _mean(trials: Sequence[Trial], name: str) -> Trial:
    seconds = float(np.exp(np.mean([np.log(trial.seconds) for trial in trials])))
    return replace(trials[0], precision=name, seconds=seconds, share=min(trial.share for trial in trials))
