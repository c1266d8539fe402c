"""The cost model and the promises made by it."""

import numpy as np
import pytest
from resnet_server.batching.admission import Admission, Backlog
from resnet_server.batching.cost_model import CostModel


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


def test_broken_promises_make_it_careful_and_kept_ones_trustful_again() -> None:
    admission, backlog = Admission(CostModel(1e-3, 1e-3), 8), Backlog(8, 0, 1)
    admission.check(1, 0.012, backlog)
    for _ in range(100):
        admission.kept(0.005)
    with pytest.raises(Exception, match="the answer takes 16"):
        admission.check(1, 0.012, backlog)
    for _ in range(200):
        admission.kept(0.0)
    admission.check(1, 0.012, backlog)


def test_an_idle_model_that_has_gone_wrong_still_lets_requests_in_to_learn() -> None:
    admission = Admission(CostModel(1e-3, 1e-3), 8)
    for _ in range(500):
        admission.cost.observe(1, 8e-3)
        admission.kept(0.5)
    admission.check(1, 0.005, Backlog(0, 0, 1))
