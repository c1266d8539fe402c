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


def as_served(records: Sequence[MemberRecord], shop: Workshop) -> tuple[tuple[Member, ...], Workshop]:
    """Members and workshop with which the simulator gives what was measured while they served; as planned where nothing was."""
    times, serving = fitted(records, shop)
    members = [Member(one.name, one.precision, one.depth, one.accuracy, times * one.fixed, times * one.per_row) for one in records]
    return tuple(members), replace(shop, serving=serving)


def fitted(records: Sequence[MemberRecord], shop: Workshop) -> tuple[float, float]:
    """How many times the planned seconds batches take in a busy server, and seconds of an engine that a row costs beside them.

    Least squares over the members, relative to what a row took in all, neither of the two below 0.
    """
    pairs = [((one.fixed / shop.max_batch + one.per_row), shop.engines / one.served) for one in records if one.served]
    if not pairs:
        return 1.0, 0.0
    planned, served = np.array(pairs).T
    weighted = np.stack((planned / served, 1 / served), axis=1)
    if len(pairs) > 1:
        times, serving = np.linalg.lstsq(weighted, np.ones(len(pairs)), rcond=None)[0].tolist()
        if times > 0 and serving >= 0:
            return times, serving
    scale = weighted[:, 0]
    return float(scale.sum() / (scale @ scale)), 0.0


def simulate(records: Sequence[MemberRecord], shop: Workshop, kind: LoadKind, seed: int, right: Right) -> list[Point]:
    """One trace, and all ways through it."""
    arrivals = arrivals_of(records, shop, kind, seed)
    members, shop = as_served(records, shop)
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
    members, shop = as_served(records, shop)
    return kind.arrivals(shop.capacity(members[0]), shop.capacity(members[-1]), seed)


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
