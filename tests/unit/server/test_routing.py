"""The policy of `auto`: what it may never do, for any state, and what it makes of traces in virtual time."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_server.routing import traces
from resnet_server.routing.costs import MOST_SERVING
from resnet_server.routing.member import Member, pareto_front
from resnet_server.routing.policy import GUARD_SECONDS, NEVER, DepthPolicy, Reason, Waiting
from resnet_server.routing.rates import WINDOW, ArrivalRate
from resnet_server.routing.simulator import ByPolicy, EverySecond, Fixed, Result, Simulation, Workshop

FRONT = (
    Member("resnet20", "fp32", 20, 0.913, 2e-4, 5.3e-4),
    Member("resnet32", "fp32", 32, 0.923, 2e-4, 8.8e-4),
    Member("resnet44", "fp32", 44, 0.927, 2.5e-4, 1.22e-3),
    Member("resnet56", "fp32", 56, 0.928, 3e-4, 1.55e-3),
)
DEEPEST, CHEAPEST = FRONT[-1], FRONT[0]
SHOP = Workshop(engines=2, max_batch=16, deadline=0.05)
CAPACITY = {member.name: SHOP.engines * SHOP.max_batch / member.seconds(SHOP.max_batch) for member in FRONT}


def policy(**options: float) -> DepthPolicy:
    return DepthPolicy(FRONT, SHOP.max_batch, **options)


def simulate(arrivals: traces.Times, noise: float = 0.0) -> Result:
    return Simulation(SHOP, ByPolicy(policy()), CHEAPEST, noise).run(arrivals)


def traced(arrivals: traces.Times, shop: Workshop = SHOP) -> tuple[list[tuple[float, Member]], Result]:
    """When which network answered, and the result."""
    chooser, answers = ByPolicy(policy()), list[tuple[float, Member]]()

    class Noting:
        def arrived(self, now: float, rows: int) -> None:
            chooser.arrived(now, rows)

        def choose(self, now: float, waiting: Waiting) -> Member:
            answers.append((now, chooser.choose(now, waiting)))
            return answers[-1][1]

        def ended(self, member: Member, rows: int, seconds: float, computing: float, pressed: bool) -> None:
            chooser.ended(member, rows, seconds, computing, pressed)

    return answers, Simulation(shop, Noting(), CHEAPEST).run(arrivals)


def test_the_front_leaves_out_what_costs_more_and_knows_less() -> None:
    worse = replace(FRONT[1], name="worse", accuracy=0.9, per_row=2e-3)
    slower_twin = replace(FRONT[1], name="twin", per_row=1e-3)
    assert pareto_front((worse, *reversed(FRONT), slower_twin), 16) == FRONT


def test_in_calm_the_deepest_answers_and_says_so() -> None:
    decision = policy().choose(0.0, Waiting(1, slack=0.05, last_slack=0.05))
    assert (decision.member, decision.reason) == (DEEPEST, Reason.DEEPEST)


def test_a_short_deadline_is_answered_by_a_shallower_one() -> None:
    decision = policy().choose(0.0, Waiting(16, slack=0.022, last_slack=0.05))
    assert (decision.member.name, decision.reason) == ("resnet44", Reason.SLACK)


def test_many_calls_at_once_leave_room_for_those_of_a_burst_and_one_of_many_rows_does_not() -> None:
    assert policy().choose(0.0, Waiting(16, slack=0.05, last_slack=0.05, calls=1)).member is DEEPEST
    assert policy().choose(0.0, Waiting(16, slack=0.05, last_slack=0.05, calls=2, engines=2)).member is DEEPEST
    decision = policy().choose(0.0, Waiting(16, slack=0.05, last_slack=0.05, calls=16))
    assert (decision.member.name, decision.reason) == ("resnet44", Reason.BACKLOG)


def test_those_behind_make_it_shallower() -> None:
    for behind, expected in ((0, "resnet56"), (2, "resnet44"), (8, "resnet32"), (40, "resnet20")):
        decision = policy().choose(0.0, Waiting(16, behind, slack=0.05, last_slack=0.05, engines=1))
        assert (decision.member.name, decision.reason) == (expected, Reason.BACKLOG if behind else Reason.DEEPEST)


def test_places_that_run_out_make_it_shallower_even_without_a_deadline() -> None:
    for behind, expected in ((30, "resnet56"), (40, "resnet44"), (80, "resnet20")):
        assert policy(places=100).choose(0.0, Waiting(16, behind)).member.name == expected
    assert policy().choose(0.0, Waiting(16, 80)).member is DEEPEST


def test_between_two_networks_the_length_of_the_queue_decides_and_says_that_it_is_the_load() -> None:
    chooser = policy()
    for index in range(4000):
        chooser.arrived(index / 2000, 1)
        chooser.choose(index / 2000, Waiting(1, slack=0.05, engines=2))
    assert chooser.members[chooser.level].name == "resnet32"
    for behind, expected in ((0, DEEPEST), (20, DEEPEST), (30, FRONT[2]), (45, FRONT[1]), (80, CHEAPEST)):
        decision = chooser.choose(2.0, Waiting(1, behind, 0.05, 0.05, engines=2))
        reason = Reason.LOAD if decision.level >= chooser.level else Reason.BACKLOG
        assert (decision.member, decision.reason) == (expected, Reason.DEEPEST if expected is DEEPEST else reason)


def test_without_a_deadline_the_target_decides() -> None:
    assert policy().choose(0.0, Waiting(16)).member is DEEPEST
    assert policy(target=0.012).choose(0.0, Waiting(16)).member is CHEAPEST


def test_bounds_of_the_caller_are_kept_and_impossible_ones_are_an_error() -> None:
    chooser = policy()
    assert chooser.choose(0.0, Waiting(1, max_depth=44)).reason is Reason.LIMIT
    assert chooser.choose(0.0, Waiting(1, slack=0.0, min_accuracy=0.92)).member.name == "resnet32"
    assert chooser.choose(0.0, Waiting(1, slack=0.0, min_accuracy=0.92)).reason is Reason.FLOOR
    with pytest.raises(ValueError, match=r"min_accuracy: 0.925 with max_depth 20; no member has both"):
        chooser.choose(0.0, Waiting(1, min_accuracy=0.925, max_depth=20))
    assert chooser.eligible(0.925, 20) == ()
    assert chooser.least_seconds(1, 0.99) == NEVER


@st.composite
def states(draw: st.DrawFn, close: bool = False) -> Waiting:
    """`close`: about as much time as a batch takes, and few behind it: there a wrong decision shows."""
    slack = draw(st.floats(0, 0.03) if close else st.floats(0, 0.05) | st.floats(0, 0.2) | st.just(1.0))
    behind = draw(st.sampled_from([0, 0, 1, 4]) if close else st.just(0) | st.integers(0, 200))
    later = draw(st.floats(0, 0.03) if close else st.floats(0, 0.2))
    rows = draw(st.integers(1, 16))
    return Waiting(rows, behind, slack, slack + later, draw(st.integers(1, 8)), calls=draw(st.integers(1, rows)))


@st.composite
def histories(draw: st.DrawFn) -> tuple[DepthPolicy, float]:
    """A policy after arrivals and batches of any kind, and the time since."""
    chooser, now = policy(), 0.0
    for _ in range(draw(st.just(0) | st.integers(0, 30))):
        now += draw(st.floats(0, 0.1))
        chooser.arrived(now, draw(st.integers(1, 64)))
        member = draw(st.sampled_from(FRONT))
        learn = draw(st.sampled_from((chooser.costs.computed, chooser.costs.held)))
        learn(member, 8, member.seconds(8) * draw(st.floats(0.1, 20)))
        chooser.choose(now, draw(states()))
    return chooser, now


@settings(max_examples=300, deadline=None)
@given(histories(), states(close=True))
def test_nobody_is_late_whom_any_member_could_have_answered_in_time(history: tuple[DepthPolicy, float], waiting: Waiting) -> None:
    chooser, now = history
    chosen = chooser.seconds(chooser.choose(now, waiting).member, waiting.rows)
    if chooser.seconds(CHEAPEST, waiting.rows) + GUARD_SECONDS <= waiting.slack:
        assert chosen + GUARD_SECONDS <= waiting.slack


@settings(max_examples=300, deadline=None)
@given(histories(), states(close=True), st.floats(0, 0.2))
def test_more_time_never_gives_a_shallower_answer(history: tuple[DepthPolicy, float], waiting: Waiting, more: float) -> None:
    chooser, now = history
    depth = deepcopy(chooser).choose(now, waiting).member.depth
    longer = replace(waiting, slack=waiting.slack + more, last_slack=waiting.last_slack + more)
    assert chooser.choose(now, longer).member.depth >= depth


@given(
    histories(), states(), st.sampled_from([member.accuracy for member in FRONT]) | st.floats(0.9, 0.928), st.sampled_from([0, 32, 44, 56])
)
def test_bounds_of_the_caller_hold_in_every_state(
    history: tuple[DepthPolicy, float], waiting: Waiting, accuracy: float, depth: int
) -> None:
    chooser, now = history
    if not chooser.eligible(accuracy, depth):
        return
    chosen = chooser.choose(now, replace(waiting, min_accuracy=accuracy, max_depth=depth)).member
    assert chosen.accuracy >= accuracy
    assert not depth or chosen.depth <= depth


@given(st.lists(st.tuples(st.sampled_from(FRONT), st.integers(1, 16), st.floats(0, 1e3)), max_size=200))
def test_the_slow_down_factor_stays_within_reason_and_comes_back(batches: list[tuple[Member, int, float]]) -> None:
    chooser = policy()
    for member, rows, seconds in batches:
        chooser.costs.computed(member, rows, seconds)
    assert 0.25 <= chooser.costs.slow_down <= 16
    for _ in range(100):
        chooser.costs.computed(DEEPEST, 8, DEEPEST.seconds(8))
    assert chooser.costs.slow_down == pytest.approx(1, abs=0.01)


@given(st.lists(st.tuples(st.sampled_from(FRONT), st.integers(1, 16), st.floats(0, 1e3), st.booleans()), max_size=200))
def test_what_serving_costs_stays_within_its_bound_whatever_is_seen(batches: list[tuple[Member, int, float, bool]]) -> None:
    costs, row = policy().costs, CHEAPEST.seconds(16) / 16
    for member, rows, seconds, waited in batches:
        (costs.held if waited else costs.computed)(member, rows, seconds)
        assert 0.25 <= costs.slow_down <= 16
        assert 0 <= costs.serving <= MOST_SERVING * row
        assert costs.deviation >= 0


@given(st.floats(0.8, 1.5), st.floats(0, 4e-4))
def test_batches_of_two_networks_tell_what_serving_costs_from_a_slow_machine(times: float, serving: float) -> None:
    costs = policy().costs
    for index in range(600):
        member, rows = FRONT[3 * (index % 2)], 4 + index % 13
        costs.held(member, rows, times * member.seconds(rows) + serving * rows)
    assert costs.slow_down == pytest.approx(times, abs=0.03)
    assert costs.serving == pytest.approx(serving, abs=3e-5)


def test_one_network_alone_tells_their_sum_and_calm_leaves_what_was_learned_of_serving() -> None:
    costs = policy().costs
    for _ in range(100):
        costs.held(CHEAPEST, 16, 1.5 * CHEAPEST.seconds(16))
    assert costs.seconds(CHEAPEST, 16) == pytest.approx(1.5 * CHEAPEST.seconds(16), rel=1e-3)
    known = costs.serving
    assert known > 1e-4
    for _ in range(100):
        costs.computed(DEEPEST, 1, DEEPEST.seconds(1))
    assert costs.serving == known
    assert costs.slow_down == pytest.approx(1, abs=0.01)
    costs.replan(known / 2)
    assert costs.serving == MOST_SERVING * known / 2


BUSY = replace(SHOP, serving=3.5e-4)  # as much beside it as two thirds of the cheapest's own time


@pytest.mark.parametrize("seed", range(3))
def test_near_the_limit_of_a_server_whose_calls_cost_time_nobody_is_late_for_want_of_knowing(seed: int) -> None:
    arrivals = traces.poisson(0.9 * BUSY.capacity(CHEAPEST), 6, seed)
    busy, blind = ByPolicy(policy()), ByPolicy(policy())
    blind.ended = lambda *_: None  # type: ignore[method-assign]
    found, without = (Simulation(BUSY, chooser, CHEAPEST, 0.05, seed).run(arrivals) for chooser in (busy, blind))
    assert found.attainment > 0.999
    assert found.accuracy > Simulation(BUSY, Fixed(CHEAPEST), CHEAPEST, 0.05, seed).run(arrivals).accuracy
    assert without.attainment < found.attainment
    assert busy.level_changes < 6


@pytest.mark.parametrize("seed", range(3))
def test_a_burst_on_such_a_server_is_answered_in_time_and_the_deepest_is_back(seed: int) -> None:
    calm = 0.18 * BUSY.capacity(CHEAPEST)
    answers, result = traced(traces.square_burst(calm, 5, 3, 3, 3, seed), BUSY)
    assert result.attainment > 0.998
    assert all(member is DEEPEST for now, member in answers if now > 7)


def test_the_rate_follows_within_three_windows_and_fades() -> None:
    rate = ArrivalRate()
    assert rate.rows_per_second(5.0) == 0
    for index in range(1500):
        rate.arrived(index * 1e-3, 1)
    assert rate.rows_per_second(1.5) == pytest.approx(1000, rel=0.06)
    assert rate.rows_per_second(1.5 + 3 * WINDOW) < 60


@pytest.mark.parametrize("cv2", [1.0, 8.0])
@pytest.mark.parametrize("name", [member.name for member in FRONT])
def test_constant_load_below_a_capacity_is_answered_in_time_with_less_than_a_change_of_level_a_second(name: str, cv2: float) -> None:
    seconds, chooser = 10.0, ByPolicy(policy())
    arrivals = traces.gamma(0.8 * CAPACITY[name], cv2, seconds, 0)
    result = Simulation(SHOP, chooser, CHEAPEST).run(arrivals)
    assert result.attainment > Simulation(SHOP, Fixed(CHEAPEST), CHEAPEST).run(arrivals).attainment - 6e-3
    assert chooser.level_changes < seconds
    assert result.accuracy >= next(member.accuracy for member in FRONT if member.name == name) - 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_after_a_burst_the_deepest_is_back_within_a_second(seed: int) -> None:
    answers, result = traced(traces.square_burst(0.3 * CAPACITY["resnet56"], 5, 3, 4, 4, seed))
    assert result.attainment > 0.999
    assert any(member is not DEEPEST for now, member in answers if 3 < now < 7)
    assert all(member is DEEPEST for now, member in answers if now > 8)


@pytest.mark.parametrize("cv2", [1.0, 4.0, 8.0])
def test_it_is_in_time_where_the_deepest_alone_is_not_and_more_accurate_than_the_shallowest(cv2: float) -> None:
    arrivals = traces.gamma(0.95 * CAPACITY["resnet56"], cv2, 8, 7)
    deepest, shallowest = (Simulation(SHOP, Fixed(member), member).run(arrivals) for member in (DEEPEST, CHEAPEST))
    auto = simulate(arrivals, noise=0.05)
    assert auto.attainment >= max(deepest.attainment, 0.99)
    assert auto.accuracy > shallowest.accuracy + 0.01


def test_steps_are_followed_better_than_by_a_choice_every_second() -> None:
    arrivals = traces.steps(tuple(share * CAPACITY["resnet56"] for share in (0.5, 1.5, 2.5, 1.0)), 5, 3)
    every_second = Simulation(SHOP, EverySecond(FRONT, SHOP), CHEAPEST).run(arrivals)
    auto = simulate(arrivals)
    assert auto.attainment > every_second.attainment
    assert auto.attainment > 0.995


def test_nobody_is_lost_or_counted_twice() -> None:
    result = simulate(traces.poisson(3 * CAPACITY["resnet20"], 3, 1))
    assert result.in_time + result.late + result.refused == result.offered
    assert result.in_time == sum(result.by_member.values())
    assert result.refused > result.offered / 2


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_traces_are_in_order_repeatable_and_of_the_rate_asked_for(seed: int) -> None:
    makers: tuple[Callable[[], traces.Times], ...] = (
        lambda: traces.poisson(500, 20, seed),
        lambda: traces.gamma(500, 4, 20, seed),
        lambda: traces.steps((200, 800), 10, seed),
        lambda: traces.square_burst(300, 5, 8, 4, 8, seed),
        lambda: traces.social(500, 20, seed, day=20),
    )
    for make in makers:
        times = make()
        assert np.array_equal(times, make())
        assert np.all(np.diff(times) >= 0)
        assert 0 <= times[0] <= times[-1] <= 20
        assert len(times) / 20 == pytest.approx(500, rel=0.35)


def test_the_long_trace_varies_as_measured() -> None:
    times = traces.social(64, 86_400, 1)
    counts = np.bincount(times.astype(int), minlength=86_400)
    hours = counts.reshape(24, 3600)
    assert np.median(hours.var(axis=1) / hours.mean(axis=1)) == pytest.approx(5, abs=3.5)
    assert 2 < hours.mean(axis=1).max() / counts.mean() < 3.4
    assert hours.mean(axis=1).min() / counts.mean() < 0.5
    assert 4 < counts.max() / counts.mean() < 9
