"""The cost model and the promises made by it."""

import numpy as np
import pytest
from resnet_server.batching.admission import Admission, Backlog, Lag
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.delay_rule import DelayRule
from resnet_server.errors import LateError, UnreachableDeadlineError


def test_it_starts_from_the_plan_and_follows_the_machine() -> None:
    cost = CostModel(1e-3, 2e-3)
    assert cost.predict(4) == pytest.approx(9e-3)
    rng = np.random.default_rng(0)
    for rows in rng.integers(1, 9, 300):
        cost.observe(int(rows), 3e-3 + 1e-3 * rows + rng.normal(0, 1e-5))
    assert [cost.fixed, cost.per_row] == pytest.approx([3e-3, 1e-3], rel=0.02)


def test_batches_of_one_size_scale_the_plan() -> None:
    cost = CostModel(1e-3, 2e-3)
    for _ in range(300):
        cost.observe(4, 18e-3)
    assert [cost.fixed, cost.per_row] == pytest.approx([2e-3, 4e-3], rel=0.01)


def test_one_stall_of_the_machine_does_not_overthrow_it() -> None:
    cost = CostModel(1e-3, 1e-3)
    for _ in range(100):
        cost.observe(1, 2e-3)
    cost.observe(1, 5.0)
    assert cost.predict(1) < 2.3e-3


@pytest.mark.parametrize(
    ("rows", "backlog", "seconds"),
    [
        (1, Backlog(0, 0, 1), 2e-3),
        (8, Backlog(0, 0, 2), 5e-3),  # half of the rows on each engine
        (1, Backlog(8, 0, 1), 9e-3 + 2e-3),
        (1, Backlog(8, 8, 2), (9e-3 + 4.5e-3) / 2 + 2e-3),
        (20, Backlog(0, 0, 1), 2 * 9e-3 + 5e-3),
    ],
)
def test_a_promise_counts_what_runs_what_waits_and_the_rows_themselves(rows: int, backlog: Backlog, seconds: float) -> None:
    assert Admission(CostModel(1e-3, 1e-3), 8).seconds(rows, backlog) == pytest.approx(seconds)


KIND = (2, False)


def test_broken_promises_make_it_careful_and_kept_ones_trustful_again() -> None:
    admission, backlog = Admission(CostModel(1e-3, 1e-3), 8), Backlog(8, 0, 1)
    admission.check(1, 0.012, backlog, KIND, 0.0)
    for number in range(100):
        admission.kept(0.005, KIND, 0.03 * number)
    with pytest.raises(LateError, match="the answer takes 16"):
        admission.check(1, 0.012, backlog, KIND, 3.0)
    admission.check(1, 0.012, backlog, (1, False), 3.0)  # what was promised to others says nothing of the urgent
    for number in range(200):
        admission.kept(0.0, KIND, 3 + 0.03 * number)
    admission.check(1, 0.012, backlog, KIND, 9.0)


def test_what_a_stall_taught_fades_though_nothing_is_answered() -> None:
    admission, backlog = Admission(CostModel(1e-3, 1e-3), 8), Backlog(1, 1, 1)
    for number in range(200):
        admission.kept(0.5, KIND, 10 + 0.005 * number)
    with pytest.raises(LateError):
        admission.check(1, 0.2, backlog, KIND, 11.0)
    admission.check(1, 0.2, Backlog(0, 1, 1), KIND, 11.0)  # what was learned must not leave an engine without work
    admission.check(1, 0.2, backlog, KIND, 12.0)
    admission.kept(0.0, KIND, 20.0)
    admission.kept(0.0, KIND, 20.1)
    admission.check(1, 0.02, backlog, KIND, 20.1)  # one answer does not bring it back


def test_the_answers_of_a_moment_are_learned_like_one_and_a_stall_as_an_outlier() -> None:
    """Learned one by one they swung the door: those let in meanwhile are answered, and show what that did, only later."""
    admission, backlog = Admission(CostModel(1e-3, 1e-3), 8), Backlog(8, 0, 1)
    for number in range(40):
        admission.kept(0.0, KIND, 0.025 * number)
    for _ in range(1000):
        admission.kept(0.03, KIND, 1.0)
    admission.check(1, 0.025, backlog, KIND, 1.0)
    for number in range(40):
        admission.kept(5.0, KIND, 1.03 if number < 20 else 1.06)
    admission.check(1, 0.06, backlog, KIND, 1.06)
    lag = Lag(0.25)
    for number in range(2000):  # ten at a time, of which one came as promised
        lag.learn(0.03 if number % 10 else 0.0, 0.05 * (number // 10) + 1e-4 * (number % 10))
    assert lag.seconds == pytest.approx(0.027, abs=0.003)


def test_an_idle_model_that_has_gone_wrong_still_lets_requests_in_to_learn() -> None:
    admission = Admission(CostModel(1e-3, 1e-3), 8)
    for _ in range(500):
        admission.computed(1, 8e-3, False, 0.0)
        admission.kept(0.5, KIND, 0.0)
    admission.check(1, 0.005, Backlog(0, 0, 1), KIND, 0.0)


def test_a_plan_that_is_too_slow_is_tried_once_a_second_while_the_model_is_idle() -> None:
    admission, idle = Admission(CostModel(0.0, 0.1), 8), Backlog(0, 0, 1)
    let_in = []
    for tenth in range(35):
        try:
            admission.check(1, 0.05, idle, KIND, tenth / 10)
            let_in.append(tenth)
        except UnreachableDeadlineError:
            pass
    assert let_in == [10, 20, 30]
    with pytest.raises(UnreachableDeadlineError):  # no plan is that wrong
        admission.check(1, 0.01, idle, KIND, 100.0)
    with pytest.raises(UnreachableDeadlineError):
        admission.check(1, 0.05, Backlog(1, 0, 1), KIND, 100.0)
    for _ in range(300):
        admission.computed(1, 0.02, False, 100.0)
    admission.check(1, 0.05, idle, KIND, 100.0)


def test_batches_that_spin_alone_teach_nothing_of_those_that_share_the_cores() -> None:
    cost = CostModel(1e-3, 2e-3, wide=True)
    for _ in range(500):
        cost.observe(1, 1.5e-3, alone=True)
    assert cost.predict(8) == pytest.approx(17e-3)
    assert cost.at_best(1) == pytest.approx(1.5e-3, rel=0.01)
    narrow = CostModel(1e-3, 2e-3)  # without wide threads all batches are alike
    for _ in range(500):
        narrow.observe(1, 1.5e-3, alone=True)
    assert narrow.predict(1) == pytest.approx(1.5e-3, rel=0.01)


def test_a_pause_of_an_hour_does_not_switch_the_delay_rule_off() -> None:
    rule = DelayRule(CostModel(0.1, 1e-3), None)
    for tick in range(100):
        rule.arrived(tick / 100)
    assert rule.leaves_at(1, 0.99) > 0.99
    rule.arrived(3600.0)
    rule.arrived(3600.01)
    assert rule.leaves_at(2, 3600.0) > 3600.01
