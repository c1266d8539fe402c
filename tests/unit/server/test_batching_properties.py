"""What holds of admission and priorities for any history: random traffic, stalls and wrong plans on a virtual clock."""

from functools import partial

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resnet_server.batching.row_queue import HIGH, LOW, NORMAL, PASSES
from resnet_server.batching.waiter import Answer
from resnet_server.errors import QueueFullError
from simulation import Stall, World, simulate

STALLS = st.lists(st.builds(Stall, st.floats(0.2, 1.5), st.floats(0.1, 1.0), st.sampled_from([0.0, 3.0, 20.0])), min_size=1, max_size=3)
WITHIN_SECONDS = 1.0
FULL_SECONDS = 36e-3  # a full batch of 8 on an engine of the simulation; with 12 callers an answer takes some 0.1 s


@settings(max_examples=6, deadline=None)
@given(
    stalls=STALLS,
    engines=st.integers(1, 3),
    callers=st.integers(1, 12),
    patience=st.floats(0.25, 0.6),
    every=st.floats(0.05, 0.2),
    low=st.integers(0, 4),
)
@example(stalls=[Stall(1.0, 1.0, 0.0)], engines=2, callers=12, patience=0.25, every=0.05, low=0)  # field case C26
@example(stalls=[Stall(1.0, 1.0, 0.0)], engines=1, callers=4, patience=0.25, every=0.1, low=4)  # late low ones say nothing of others
def test_a_disturbance_never_locks_out_callers_whom_an_undisturbed_server_would_answer_in_time(
    stalls: list[Stall], engines: int, callers: int, patience: float, every: float, low: int
) -> None:
    def play() -> None:
        world = World(engines=engines, stalls=stalls)
        calm = max(stall.end for stall in stalls)
        if any(stall.times > 1 for stall in stalls):
            calm += max(stall.times for stall in stalls) * FULL_SECONDS * 2  # the batches that began in it
        end = calm + 3.0
        world.keep_asking(callers, end)
        world.keep_asking(low, end, LOW)
        asked = world.every(every, end, lambda: world.ask(1, patience))
        world.clock.run_until(end + 5)
        after = [caller for caller in asked if caller.came > calm + WITHIN_SECONDS]
        refused = [caller for caller in after if not isinstance(caller.outcome, Answer)]
        assert after and not refused, (len(refused), len(after), refused[0].came - calm, refused[0].outcome)

    simulate(play)


@settings(max_examples=5, deadline=None)
@given(planned=st.floats(0.3, 3.5), callers=st.integers(0, 4), engines=st.integers(1, 3))
@example(planned=3.0, callers=0, engines=1)
def test_a_plan_that_was_measured_wrong_does_not_lock_the_door_either(planned: float, callers: int, engines: int) -> None:
    def play() -> None:
        world = World(engines=engines, planned=planned, fixed=10e-3, per_row=10e-3)
        world.keep_asking(callers, 12.0)
        asked = world.every(0.3, 12.0, lambda: world.ask(1, 0.3 if callers else 0.025))
        world.clock.run_until(15.0)
        late = [caller for caller in asked if caller.came > 8.0 and not isinstance(caller.outcome, Answer)]
        if callers or planned <= 1.0:
            assert not late, (late[0].came, late[0].outcome)
        else:  # once a second it is tried, until the plan has been unlearned
            assert any(isinstance(caller.outcome, Answer) for caller in asked if caller.came > 8.0)

    simulate(play)


@settings(max_examples=5, deadline=None)
@given(flood=st.integers(40, 120), lower=st.sampled_from([NORMAL, LOW]), rows=st.integers(1, 8))
def test_a_queue_full_of_lower_requests_never_refuses_a_higher_one(flood: int, lower: int, rows: int) -> None:
    def play() -> None:
        world = World(engines=1, max_queue=64)
        waiting = [world.ask(2, None, lower) for _ in range(flood)]
        urgent = world.ask(rows, None, HIGH)
        assert not urgent.is_told
        assert world.batcher.queued_rows <= 64
        world.clock.run_until(10.0)
        assert isinstance(urgent.outcome, Answer)
        assert urgent.told < 4 * FULL_SECONDS  # before all but what ran
        assert all(isinstance(caller.outcome, Answer | QueueFullError) for caller in waiting)

    simulate(play)


@settings(max_examples=6, deadline=None)
@given(normal=st.integers(0, 6), low=st.integers(0, 6), rows=st.integers(1, 8), engines=st.integers(1, 2))
def test_no_priority_starves_however_many_higher_ones_come(normal: int, low: int, rows: int, engines: int) -> None:
    def play() -> None:
        world = World(engines=engines, max_queue=64)
        world.keep_asking(64, 5.0, HIGH, rows)  # more than the queue holds
        world.keep_asking(normal, 5.0, NORMAL)  # with those below no more than the eighth that is kept for each class
        world.keep_asking(low, 5.0, LOW)
        asked = {priority: world.every(1.0, 4.0, partial(world.ask, 1, None, priority)) for priority in (NORMAL, LOW)}
        world.clock.run_until(12.0)
        for made in asked.values():
            assert all(isinstance(caller.outcome, Answer) for caller in made)
            assert all(caller.told - caller.came < 3 * (PASSES + 2) * FULL_SECONDS for caller in made)

    simulate(play)


@pytest.mark.parametrize("times", [1.0, 3.0])
def test_in_overload_what_is_admitted_is_answered_in_time(times: float) -> None:
    def play() -> None:
        world = World(engines=2, max_queue=2048)
        capacity = 2 * 8 / FULL_SECONDS
        asked = world.every(1 / (times * capacity), 3.0, lambda: world.ask(1, 0.2))
        world.clock.run_until(5.0)
        good = [caller for caller in asked if isinstance(caller.outcome, Answer) and caller.told - caller.came <= 0.2]
        assert len(good) / 3.0 >= 0.9 * capacity

    simulate(play)
