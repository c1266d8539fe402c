"""The fleet on paper against a simulation of it, up to a million requests a second."""

import heapq
import random

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_bench.fleet import Engine, plan_fleet
from resnet_bench.fleet_command import plan_fleet_command

SMALL = Engine.measured(0.0015, 0.0333, 32)
DEEP = Engine.measured(0.02, 0.06, 4)
QUICK = Engine.measured(0.0008, 0.004, 64)


def simulated_p99(engine: Engine, engines: int, peak: float, rows: int, seed: int = 1) -> float:
    """Latency that 99 % keep, seconds: Poisson arrivals, each to the idler of two engines at random, as Envoy's least request does it.

    An idle engine takes all that wait for it at once, `engine.batch` at most.
    """
    rng = random.Random(seed)
    waiting: list[list[float]] = [[] for _ in range(engines)]
    running = [0] * engines
    ends: list[tuple[float, int, list[float]]] = []
    latencies: list[float] = []

    def start(index: int, now: float) -> None:
        taken, waiting[index] = waiting[index][: engine.batch], waiting[index][engine.batch :]
        running[index] = len(taken)
        if taken:
            heapq.heappush(ends, (now + engine.seconds(len(taken)), index, taken))

    def finish(until: float) -> None:
        while ends and ends[0][0] <= until:
            now, index, taken = heapq.heappop(ends)
            latencies.extend(now - arrived for arrived in taken)
            start(index, now)

    now = 0.0
    for _ in range(rows):
        now += rng.expovariate(peak)
        finish(now)
        pair = (rng.randrange(engines), rng.randrange(engines))
        index = min(pair, key=lambda at: len(waiting[at]) + running[at])
        waiting[index].append(now)
        if not running[index]:
            start(index, now)
    finish(float("inf"))
    return float(np.quantile(latencies[len(latencies) // 5 :], 0.99))


@pytest.mark.parametrize(
    ("engine", "engines", "peak", "objective", "rows"),
    [
        (SMALL, 2, 200, 0.05, 20_000),
        (SMALL, 2, 4_000, 0.05, 120_000),
        (SMALL, 2, 20_000, 0.05, 60_000),
        (DEEP, 4, 3_000, 0.1, 30_000),
        (QUICK, 16, 1_000_000, 0.01, 200_000),
    ],
    ids=["a small service", "half a minute", "a large one", "a deep network", "a million a second"],
)
def test_a_planned_fleet_keeps_its_objective_and_much_less_would_not(
    engine: Engine, engines: int, peak: float, objective: float, rows: int
) -> None:
    fleet = plan_fleet(engine, engines, peak, objective, spare=0)
    assert simulated_p99(engine, engines * fleet.replicas, peak, rows) <= fleet.latency <= objective
    fewest = int(peak / engine.most / engines)  # at full batches all the time, with nothing to spare
    if fewest:
        assert simulated_p99(engine, engines * fewest, peak, rows) > fleet.latency


@pytest.mark.parametrize("engine", [SMALL, DEEP, QUICK])
def test_an_engine_reproduces_what_was_measured(engine: Engine) -> None:
    again = Engine.measured(engine.seconds(1), engine.seconds(engine.batch), engine.batch)
    assert (again.fixed, again.per_row) == pytest.approx((engine.fixed, engine.per_row))


def test_spares_come_on_top_and_cost() -> None:
    without, with_two = (plan_fleet(SMALL, 2, 20_000, 0.05, spare=spare, price=0.5) for spare in (0, 2))
    assert with_two.replicas == without.replicas + 2
    assert with_two.cost == pytest.approx(without.cost + 1.0)
    assert with_two.latency == without.latency


def test_a_replica_that_takes_in_fewer_calls_than_it_computes_needs_more_of_its_kind() -> None:
    """A quick network: sixteen engines compute 200,000 rows a second, and the front ends before them take in 10,000 calls."""
    computing, taking_in = (plan_fleet(QUICK, 16, 1_000_000, 0.01, spare=0, most_calls=most) for most in (1e9, 10_000))
    assert computing.replicas < 10
    assert taking_in.replicas == 100
    assert taking_in.latency < computing.latency


def test_what_cannot_be_is_said_in_one_line() -> None:
    arguments = ["--row-ms", "20", "--batch", "4", "--batch-ms", "60", "--peak", "100", "--objective-ms", "39"]
    result = CliRunner().invoke(plan_fleet_command, arguments)
    assert (result.exit_code, result.output) == (1, "Error: objective: 0.039 s; expected 0.04 s or more, what two single rows take\n")
    with pytest.raises(ValueError, match=r"4 rows took 0.01 s, one row 0.02 s"):
        Engine.measured(0.02, 0.01, 4)


def test_the_command_prints_a_row_for_each_forecast() -> None:
    arguments = [
        "--row-ms",
        "1.5",
        "--batch",
        "32",
        "--batch-ms",
        "33.3",
        "--engines",
        "2",
        "--peak",
        "1000",
        "--peak",
        "1000000",
        "--price",
        "0.1",
    ]
    result = CliRunner().invoke(plan_fleet_command, arguments)
    assert result.exit_code == 0, result.output
    assert "1,000,000" in result.output
    assert plan_fleet(Engine.measured(0.0015, 0.0333, 32), 2, 1_000_000, 0.05).replicas > 500
