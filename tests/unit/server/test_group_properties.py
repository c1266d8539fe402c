"""What holds of a group for any traffic: its real queue, door and policy on a virtual clock, with engines that keep to the plan."""

from collections.abc import Sequence
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.deadline_queue import PATIENCE_SECONDS
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.errors import ServingError
from resnet_server.models.depth_chooser import DepthChooser, choice_of
from resnet_server.models.group import GroupInfo, manifest_of
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.plan import Plan
from resnet_server.routing import traces
from resnet_server.routing.policy import DepthPolicy
from resnet_server.routing.simulator import ByPolicy, Simulation, Workshop
from simulation import Caller, Stall, World, simulate

FIXED, PER_ROW, BATCH, ENGINES = 2e-4, 5e-4, 4, 2
TIMES = (1.0, 1.7, 2.4, 3.1)
DEPTHS, ACCURACIES = (20, 32, 44, 56), (0.913, 0.924, 0.927, 0.928)
CAPACITY = ENGINES * BATCH / (FIXED + PER_ROW * BATCH)
"""Rows a second of the cheapest."""


def plan(times: float) -> Plan:
    return Plan("fp32", ENGINES, 1, 0, BATCH, times * FIXED, times * PER_ROW, "", ())


def member(depth: int, times: float) -> ModelInfo:
    manifest = Manifest(name=f"resnet{depth}", version="1", artifacts=[Artifact(precision="fp32")])
    manifest.network.depth = depth
    return ModelInfo(manifest, ("one",), "fp32", CPU_PROVIDER, True, None, plan(times))


def group() -> GroupInfo:
    members = tuple(map(member, DEPTHS, TIMES))
    manifest, own = manifest_of("auto", "fp32", members[-1]), plan(1.0)
    return GroupInfo(manifest, ("one",), "fp32", CPU_PROVIDER, True, None, own, members=members, accuracies=ACCURACIES)


def grouped(stalls: Sequence[Stall] = ()) -> World:
    chooser = DepthChooser(group(), places=2048)
    return World(ENGINES, FIXED, PER_ROW, max_batch=BATCH, max_queue=2048, stalls=stalls, chooser=chooser, times=TIMES)


def answered_by(caller: Caller) -> ModelInfo:
    assert isinstance(caller.outcome, Answer)
    choice = choice_of(caller.outcome)
    assert choice is not None
    return choice.info


def send(world: World, arrivals: traces.Times, seconds: float, demand: Demand = ANY) -> list[Caller]:
    """One request at each time, with a deadline in `seconds`."""
    made: list[Caller] = []
    for at in arrivals.tolist():
        world.clock.call_at(at, lambda: made.append(world.ask(1, seconds, demand=demand)))
    return made


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7, 0.9])
def test_constant_load_that_the_cheapest_can_answer_is_answered_in_time_and_as_well_as_in_the_simulator(load: float) -> None:
    arrivals = traces.poisson(load * CAPACITY, 3.0, 1)

    def play() -> None:
        world = grouped()
        made = send(world, arrivals, 0.05)
        world.clock.run_until(4.0)
        refused = [caller.outcome for caller in made if not isinstance(caller.outcome, Answer)]
        assert len(refused) <= 0.002 * len(made), refused[:3]
        assert all(caller.told <= caller.came + 0.05 for caller in made if isinstance(caller.outcome, Answer))
        found = [ACCURACIES[DEPTHS.index(answered_by(one).manifest.network.depth)] for one in made if isinstance(one.outcome, Answer)]
        assert sum(found) / len(found) == pytest.approx(simulated(arrivals), abs=1e-3)

    simulate(play)


def simulated(arrivals: traces.Times) -> float:
    """Accuracy."""
    members = group().routed()
    policy = DepthPolicy(members, BATCH)
    return Simulation(Workshop(ENGINES, BATCH, 0.05), ByPolicy(policy), members[0]).run(arrivals).accuracy


def test_only_where_others_wait_is_the_cost_of_serving_learned() -> None:
    def play() -> None:
        calm, crowded = grouped((Stall(0.0, 10.0, 1.5),)), grouped((Stall(0.0, 10.0, 1.5),))
        for index in range(20):
            calm.clock.call_at(0.1 * index, partial(calm.ask, 1, 0.09))
        calm.clock.run_until(4.0)
        send(crowded, traces.poisson(0.6 * CAPACITY, 1.0, 1), 0.05)
        crowded.clock.run_until(4.0)
        found = [world.chooser for world in (calm, crowded)]
        assert all(isinstance(chooser, DepthChooser) and chooser.slow_down > 1.05 for chooser in found)
        assert [isinstance(chooser, DepthChooser) and chooser.serving > 0.05 * PER_ROW for chooser in found] == [False, True]

    simulate(play)


DEMANDS = (ANY, Demand(0.925), Demand(max_depth=32), Demand(0.92, 44))


@settings(max_examples=6, deadline=None)
@given(
    load=st.floats(0.2, 2.0),
    patience=st.floats(0.01, 0.2),
    every=st.floats(0.2, 0.5),
    rows=st.integers(1, 8),
    demand=st.sampled_from(DEMANDS),
    seed=st.integers(0, 99),
)
def test_nobody_starves_and_bounds_hold_whatever_comes(
    load: float, patience: float, every: float, rows: int, demand: Demand, seed: int
) -> None:
    """A flood with deadlines that nobody could answer whole, and beside it some who have no deadline or ask for certain networks."""

    def play() -> None:
        world = grouped()
        flood = send(world, traces.poisson(load * CAPACITY, 1.5, seed), patience)
        patient = world.every(every, 1.0, partial(world.ask, rows, None, demand=demand))
        choosy = world.every(every, 1.0, partial(world.ask, 1, 0.5, demand=demand))
        world.clock.run_until(8.0)
        full = (FIXED + PER_ROW * BATCH) * TIMES[-1]
        for caller in patient:
            assert isinstance(caller.outcome, Answer), caller.outcome
            assert caller.told - caller.came <= PATIENCE_SECONDS + (len(patient) * rows / BATCH + 6) * full
        for caller in (*patient, *(one for one in choosy if isinstance(one.outcome, Answer))):
            info = answered_by(caller)
            assert ACCURACIES[DEPTHS.index(info.manifest.network.depth)] >= demand.min_accuracy
            assert not demand.max_depth or info.manifest.network.depth <= demand.max_depth
        for caller in (*flood, *choosy):
            assert isinstance(caller.outcome, Answer | ServingError)  # nobody is forgotten
        assert not world.batcher.queued_rows

    simulate(play)


@pytest.mark.parametrize("load", [0.5, 0.9])
@pytest.mark.parametrize("times", [2.0, 6.0])
def test_a_machine_slower_than_planned_is_noticed_and_answered_with_what_is_in_time(times: float, load: float) -> None:
    """Else deep networks make calls late, these are refused, and with those that are left the queue is short enough for deep networks."""
    arrivals = traces.poisson(load * CAPACITY / times, 3.0, 1)

    def play() -> None:
        counts = []
        for demand in (ANY, Demand(max_depth=DEPTHS[0])):
            world = grouped(stalls=(Stall(0.0, 10.0, times),))
            made = send(world, arrivals, 0.05, demand)
            world.clock.run_until(4.0)
            noticed = [caller for caller in made if caller.came > 1.0]
            counts.append(sum(isinstance(caller.outcome, Answer) for caller in noticed))
            assert counts[-1] > 0.98 * len(noticed)
        assert counts[0] > 0.99 * counts[1]

    simulate(play)
