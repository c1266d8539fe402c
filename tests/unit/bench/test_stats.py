"""Medians with intervals, and a test of difference that does not cry wolf."""

import numpy as np
import pytest
from numpy.typing import NDArray
from resnet_bench.stats import Summary, adjusted_p_values, bootstrap, least_p_value


def test_a_summary_has_range_number_and_interval() -> None:
    found = Summary.of([3.0, None, 1.0, 2.0, 10.0])
    assert found is not None
    assert (found.median, found.low, found.high, found.n) == (2.5, 1.0, 10.0, 4)
    assert found.interval is not None
    assert 1.0 <= found.interval[0] <= 2.5 <= found.interval[1] <= 10.0
    assert Summary.of([None]) is None
    few = Summary.of([1.0, 2.0])
    assert few is not None
    assert few.interval is None


def test_the_interval_holds_the_median_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = [low <= 0 <= high for low, high in (bootstrap(list(random.normal(size=15))) or (1, 0) for _ in range(300))]
    assert 0.9 <= np.mean(held) <= 0.99


def unchanged(random: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """24 figures of two results of the same server: each repeat has its drift, which all figures share, and each figure its noise."""
    drift = random.normal(0, 0.05, 2 * n)
    noise = random.normal(0, 0.03, (24, 2 * n)) * random.uniform(0.2, 3.0, (24, 1))
    values = 100 * np.exp(drift + noise)
    return values[:, :n], values[:, n:]


@pytest.mark.parametrize("n", [4, 5])
def test_unchanged_code_raises_a_false_alarm_in_less_than_one_run_of_twenty(n: int) -> None:
    random = np.random.default_rng(n)
    alarms = [adjusted_p_values(*unchanged(random, n)).min() <= 0.05 for _ in range(400)]
    assert np.mean(alarms) < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5  # 5 %, and twice the standard error of 400 runs


def test_a_real_change_is_found_with_five_repeats() -> None:
    random = np.random.default_rng(2)
    found = []
    for _ in range(50):
        before = 100 * np.exp(random.normal(0, 0.02, (24, 5)))
        after = 100 * np.exp(random.normal(0, 0.02, (24, 5)))
        after[3] *= 0.85
        found.append(adjusted_p_values(before, after)[3] <= 0.05)
    assert np.mean(found) > 0.9


def test_figures_that_are_missing_in_a_repeat_do_no_harm() -> None:
    before, after = np.full((2, 5), 100.0) + np.arange(5.0), np.full((2, 5), 200.0) + np.arange(5.0)
    before[1, 1:] = np.nan
    p_values = adjusted_p_values(before, after)
    assert p_values[0] <= 0.05
    assert p_values[1] == 1.0


def test_the_least_p_value_says_how_many_repeats_are_needed() -> None:
    assert [least_p_value(n, n) for n in (3, 4, 5)] == pytest.approx([0.1, 2 / 70, 2 / 252])
    p_values = adjusted_p_values(np.array([[1.0, 1.1, 1.2, 1.0]]), np.array([[9.0, 9.1, 9.2, 9.0]]))
    assert p_values[0] == pytest.approx(least_p_value(4, 4))
