"""What a decision of `auto` costs: `python docs/decisions/0010-depth-routing.py` prints microseconds a batch, the least of several runs.

A batch leaves every 5 ms with 8 rows, 48 wait behind it, and one batch is learned from; all that is asked of the chooser for a batch is
counted, the arrivals of its rows included. The least of the runs, since whatever else runs on the machine only adds.
"""

import timeit
from itertools import count
from typing import Any

from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_server.batching.chooser import Demand, Leaving
from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.models.depth_chooser import DepthChooser
from resnet_server.models.group import GroupInfo, manifest_of
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.plan import Plan

MEMBERS = {20: (0.913, 5.3e-4), 32: (0.924, 8.8e-4), 44: (0.927, 1.22e-3), 56: (0.928, 1.55e-3)}
"""Accuracy and seconds a row, by depth."""
BATCHES, RUNS = 5000, 9
ROWS, ARRIVALS, STEP = 8, 8, 0.005


def plan(per_row: float) -> Plan:
    """Two engines, batches of 16."""
    return Plan("fp32", 2, 1, 0, 16, 2e-4, per_row, "", ())


def member(depth: int, per_row: float) -> ModelInfo:
    """One network."""
    manifest = Manifest(name=f"resnet{depth}", version="1", artifacts=[Artifact(precision="fp32")])
    manifest.network.depth = depth
    return ModelInfo(manifest, (), "fp32", CPU_PROVIDER, True, None, plan(per_row))


def chooser() -> DepthChooser:
    """Of a group of four."""
    members = tuple(member(depth, per_row) for depth, (_, per_row) in MEMBERS.items())
    accuracies = tuple(accuracy for accuracy, _ in MEMBERS.values())
    known: dict[str, Any] = {"members": members, "accuracies": accuracies}
    manifest = manifest_of("auto", "fp32", members[-1])
    return DepthChooser(GroupInfo(manifest, (), "fp32", CPU_PROVIDER, True, None, plan(1e-3), **known))


def microseconds(demand: Demand, slack: float, learns: bool, arrives: int) -> float:
    """For a batch."""
    asked, clock = chooser(), count()
    lane = asked.lane(demand)

    def batch() -> None:
        now = STEP * next(clock)
        for _ in range(arrives):
            asked.arrived(now, 1)
        choice = asked.choose(now, Leaving(ROWS, lane, slack, 48, [(48, slack + 0.03)], 2))
        if learns:
            asked.observe(choice, ROWS, 0.0045, alone=False, held=0.0065)

    return 1e6 * min(timeit.repeat(batch, number=BATCHES, repeat=RUNS)) / BATCHES


def main() -> None:
    """Print a line for each kind."""
    for name, demand in (("any network", Demand()), ("min_accuracy", Demand(0.92)), ("max_depth", Demand(max_depth=44))):
        for slack in (0.05, 0.009):
            decision = microseconds(demand, slack, learns=False, arrives=0)
            whole = microseconds(demand, slack, learns=True, arrives=ARRIVALS)
            print(f"{name:12}, {1e3 * slack:2.0f} ms left: {decision:4.1f} us a decision; {whole:4.1f} us with 8 arrivals and learning")


if __name__ == "__main__":
    main()
