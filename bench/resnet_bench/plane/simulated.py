"""The plane by the simulator, with a server's measured costs: every way to choose on the same traces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from resnet_server.routing.member import Member
from resnet_server.routing.oracle import bound
from resnet_server.routing.policy import DepthPolicy
from resnet_server.routing.simulator import ByPolicy, Chooser, EverySecond, Fixed, Result, Simulation, Times, Workshop

from resnet_bench.plane.loads import LoadKind
from resnet_bench.plane.record import MemberRecord, Point

Right = Mapping[str, NDArray[np.bool_]]
"""By a member's label: whether it is right on each labelled image; empty where there are none."""
Keep = Callable[[tuple[str, int], Callable[[], list[Point]]], list[Point]]
NOISE = 0.05  # standard deviation of the logarithm of a batch's time


def capacity(member: Member, shop: Workshop) -> float:
    """Images a second in full batches on all engines."""
    return shop.engines * shop.max_batch / member.seconds(shop.max_batch)


def members_of(records: Sequence[MemberRecord], shop: Workshop | None = None) -> tuple[Member, ...]:
    """As the policy sees them; with `shop`, what was measured while they served counts as their cost, where it was."""
    return tuple(member_of(one, shop) for one in records)


def member_of(record: MemberRecord, shop: Workshop | None) -> Member:
    """One of them."""
    costs = (record.fixed, record.per_row) if shop is None or record.served is None else (0.0, shop.engines / record.served)
    return Member(record.name, record.precision, record.depth, record.accuracy, *costs)


def simulate(records: Sequence[MemberRecord], shop: Workshop, kind: LoadKind, seed: int, right: Right) -> list[Point]:
    """One trace, and all ways through it."""
    members, arrivals = members_of(records, shop), arrivals_of(records, shop, kind, seed)
    ways: dict[str, tuple[Chooser, Member]] = {
        "auto": (ByPolicy(DepthPolicy(members, shop.max_batch)), members[0]),
        "every second": (EverySecond(members, shop), members[0]),
        **{str(member): (Fixed(member), member) for member in members},
    }
    points = []
    for name, (chooser, cheapest) in ways.items():
        result = Simulation(shop, chooser, cheapest, NOISE, seed).run(arrivals)
        found = measured(result, right, seed) if right else result.accuracy
        levels = chooser.level_changes / result.seconds if isinstance(chooser, ByPolicy) and result.seconds else None
        answered = (result.offered, result.attainment, found, result.switches_per_second, result.by_member)
        points.append(Point(kind.name, name, seed, *answered, levels_per_second=levels))
    return [*points, oracle(kind.name, on_these_calls(members, right, len(arrivals), seed), shop, arrivals, seed)]


def arrivals_of(records: Sequence[MemberRecord], shop: Workshop, kind: LoadKind, seed: int) -> Times:
    """A trace, in multiples of what the members can answer."""
    members = members_of(records, shop)
    return kind.arrivals(capacity(members[0], shop), capacity(members[-1], shop), seed)


def asked_images(images: int, calls: int, seed: int) -> NDArray[np.int64]:
    """The image that each call asks for: all in an order of the seed, again and again. A trace may be shorter than the set."""
    return np.resize(np.random.default_rng(seed).permutation(images), calls)


def on_these_calls(members: Sequence[Member], right: Right, calls: int, seed: int) -> Sequence[Member]:
    """The members, as accurate as they are on the images of these calls."""
    if not right or not calls:
        return members
    asked = asked_images(len(right[str(members[0])]), calls, seed)
    return [replace(member, accuracy=float(right[str(member)][asked].mean())) for member in members]


def oracle(load: str, members: Sequence[Member], shop: Workshop, arrivals: Times, seed: int) -> Point:
    """The upper bound, with accuracies as they are measured everywhere else."""
    best = bound(members, shop, arrivals)
    return Point(load, "oracle", seed, best.offered, best.attainment, best.accuracy)


def measured(result: Result, right: Right, seed: int) -> float:
    """Share of right answers of those in time."""
    asked = asked_images(len(next(iter(right.values()))), result.offered, seed).tolist()
    answers = [bool(right[name][image]) for name, image in zip(result.answered_by, asked, strict=True) if name]
    return float(np.mean(answers)) if answers else 0.0


def run(records: Sequence[MemberRecord], shop: Workshop, kinds: Sequence[LoadKind], seeds: int, right: Right, keep: Keep) -> list[Point]:
    """All loads, `seeds` times each; `keep` simulates a trace unless that was done before."""
    points = []
    for kind in kinds:
        for seed in range(seeds):
            points += keep((kind.name, seed), partial(simulate, records, shop, kind, seed, right))
    return points
