"""Intervals: known values, exact properties, and the coverage that Wald's lacks."""

import math

import pytest
from resnet_proto.intervals import binomial_cdf, paired_interval, share_interval


@pytest.mark.parametrize(
    ("gained", "lost", "low", "high"), [(0, 0, -0.383, 0.383), (2, 0, -0.183, 0.726), (3, 4, -0.759, 0.525), (0, 2, -0.726, 0.183)]
)
def test_tangos_interval_has_the_known_values(gained: int, lost: int, low: float, high: float) -> None:
    found = paired_interval(gained, lost, 1000, 0.95)
    assert [100 * end for end in found] == pytest.approx([low, high], abs=5e-4)


def test_no_discordant_pair_leaves_the_square_of_z_over_the_count() -> None:
    """In closed form: with no pair that differs, the score is z where change = z^2 / (n + z^2)."""
    z2 = 1.959963984540054**2
    for pairs in (1, 20, 500):
        low, high = paired_interval(0, 0, pairs, 0.95)
        assert high == pytest.approx(z2 / (pairs + z2))
        assert low == pytest.approx(-high)


@pytest.mark.parametrize(
    ("count", "trials", "low", "high"), [(992, 1000, 98.43, 99.65), (997, 1000, 99.13, 99.94), (1000, 1000, 99.63, 100)]
)
def test_clopper_and_pearsons_interval_has_the_known_values(count: int, trials: int, low: float, high: float) -> None:
    found = share_interval(count, trials, 0.95)
    assert [100 * end for end in found] == pytest.approx([low, high], abs=6e-3)


@pytest.mark.parametrize("trials", [1, 7, 368])
def test_the_ends_are_where_the_binomial_has_its_tails(trials: int) -> None:
    for count in range(0, trials + 1, max(1, trials // 7)):
        low, high = share_interval(count, trials, 0.95)
        assert low == 0 if count == 0 else 1 - binomial_cdf(count - 1, trials, low) == pytest.approx(0.025)
        assert high == 1 if count == trials else binomial_cdf(count, trials, high) == pytest.approx(0.025)


def test_the_binomial_sums_to_one_and_equals_the_counted_one() -> None:
    assert binomial_cdf(50, 50, 0.3) == 1
    exact = sum(math.comb(20, k) * 0.1**k * 0.9 ** (20 - k) for k in range(4))
    assert binomial_cdf(3, 20, 0.1) == pytest.approx(exact)
    assert (binomial_cdf(-1, 5, 0.5), binomial_cdf(2, 5, 0.0), binomial_cdf(2, 5, 1.0)) == (0, 1, 0)


@pytest.mark.parametrize("expected", [3, 5, 7])
def test_few_discordant_pairs_are_covered_as_promised(expected: int) -> None:
    """Exact coverage of a change of 0, by summing over all counts; Wald's covers 86 to 94 % here."""
    pairs, rate = 1000, expected / 1000
    covered = 0.0
    for different in range(40):
        weight = math.comb(pairs, different) * rate**different * (1 - rate) ** (pairs - different)
        for gained in range(different + 1):
            low, high = paired_interval(gained, different - gained, pairs, 0.95)
            covered += weight * math.comb(different, gained) * 0.5**different * (low <= 0 <= high)
    assert covered >= 0.93
