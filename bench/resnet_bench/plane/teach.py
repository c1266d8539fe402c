"""A page that lets a reader move load and deadline and see which depth answers: the simulator's results on a grid, in one file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from resnet_server.routing import traces
from resnet_server.routing.policy import DepthPolicy
from resnet_server.routing.simulator import ByPolicy, Fixed, Simulation, Workshop

from resnet_bench.plane.record import MemberRecord, Plane
from resnet_bench.plane.simulated import NOISE, as_served

LOADS = tuple(step / 4 for step in range(1, 15))
"""In multiples of what the deepest network can answer."""
DEADLINES = (5, 10, 15, 20, 30, 50, 75, 100)  # milliseconds
SECONDS, WARM = 4.0, 1.0  # of a trace, and of it what is left out: at first the load is not known
PLACE = "/*DATA*/null"


@dataclass(frozen=True)
class Cell:
    """One load and deadline: shares of all calls, by member and of those not in time; and of the deepest alone, in time."""

    load: float
    deadline: int
    shares: list[float]
    missed: float
    deepest: float


def cells(members: Sequence[MemberRecord], engines: int, batch: int) -> list[Cell]:
    """The whole grid, Poisson arrivals, one seed for all."""
    return [cell(members, engines, batch, load, deadline) for deadline in DEADLINES for load in LOADS]


def cell(records: Sequence[MemberRecord], engines: int, batch: int, load: float, deadline: int) -> Cell:
    """One place of the grid."""
    members, shop = as_served(records, Workshop(engines, batch, deadline / 1e3))
    arrivals = traces.poisson(load * shop.capacity(members[-1]), SECONDS, 1)
    result = Simulation(shop, ByPolicy(DepthPolicy(members, batch)), members[0], NOISE, 1).run(arrivals)
    kept = [name for at, name in zip(arrivals.tolist(), result.answered_by, strict=True) if at >= WARM]
    shares = [round(kept.count(str(member)) / max(1, len(kept)), 4) for member in members]
    alone = Simulation(shop, Fixed(members[-1]), members[-1], NOISE, 1).run(arrivals)
    return Cell(load, deadline, shares, round(max(0.0, 1 - sum(shares)), 4), round(alone.attainment, 4))


def save_page(plane: Plane, path: Path) -> Path:
    """Write the page; returns its path."""
    found = cells(plane.members, plane.engines, plane.batch)
    members, shop = as_served(plane.members, Workshop(plane.engines, plane.batch, plane.deadline))
    data = {
        "members": [
            {
                "name": member.label,
                "depth": member.depth,
                "accuracy": member.accuracy if member.measured is None else member.measured,
                "milliseconds": 1e3 * (member.fixed + member.per_row),
                "capacity": shop.capacity(one),
            }
            for member, one in zip(plane.members, members, strict=True)
        ],
        "loads": LOADS,
        "deadlines": DEADLINES,
        "cells": [[*one.shares, one.missed, one.deepest] for one in found],
        "machine": f"{plane.machine.processor}, {plane.engines} engines, batches of up to {plane.batch}",
        "images": plane.labelled,
    }
    template = (files("resnet_bench.plane") / "teach.html").read_text(encoding="utf-8")
    path.write_text(template.replace(PLACE, json.dumps(data, separators=(",", ":"))), encoding="utf-8")
    return path
