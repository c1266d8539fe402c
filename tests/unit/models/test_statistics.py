"""Intervals and tests against values from elsewhere."""

import math

import numpy as np
import pytest
from resnet_models.statistics import compare_paired, difference_of_errors, error_interval, mean_interval, rank_correlation


def test_wilsons_interval_is_the_published_one() -> None:
    found = error_interval(81, 263)  # Newcombe 1998, Table I, method 3
    assert [found.low, found.high] == pytest.approx([25.53, 36.62], abs=0.01)


def test_newcombes_interval_of_a_difference_is_the_published_one() -> None:
    found = difference_of_errors(90, 30, 10)  # Newcombe 1998, Statistics in Medicine 17, 873, Table II (c), method 10
    assert [found.value, found.low, found.high] == pytest.approx([60, 17.05, 80.90], abs=0.01)


def test_mcnemars_p_is_the_binomials() -> None:
    first, second = np.zeros(100, bool), np.zeros(100, bool)
    first[:9], second[9] = True, True
    found = compare_paired(first, second)
    assert (found.only_first, found.only_second, found.difference.value) == (9, 1, 8)
    assert found.p == pytest.approx(2 * (1 + 10) / 2**10)
    assert found.difference.low > 0
    same = compare_paired(first, first)
    assert same.p == 1
    assert same.difference.low < 0 < same.difference.high


def test_one_draw_says_nothing_of_the_spread() -> None:
    assert (mean_interval([3.0]).low, mean_interval([3.0]).high) == (-math.inf, math.inf)
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.value == 2
    assert found.high == pytest.approx(2 + 4.3027 / math.sqrt(3), abs=1e-3)


def test_kendalls_tau_is_one_for_the_same_order_and_nothing_without_variation() -> None:
    assert rank_correlation(range(5), range(5)) == pytest.approx(1)
    assert rank_correlation(range(5), range(5)[::-1]) == pytest.approx(-1)
    assert rank_correlation(range(4), [0, 1, 3, 2]) == pytest.approx(4 / 6)
    assert rank_correlation(range(3), [1, 1, 1]) == 0
