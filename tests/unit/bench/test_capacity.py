"""The search for the capacity, with a server that is a function."""

import pytest
from resnet_bench.depths.capacity import MAX_PROBES, TOLERANCE, Found, Verdict, search


@pytest.mark.parametrize("first", [20.0, 100.0, 380.0])
@pytest.mark.parametrize("limit", [100.0, 130.0])
def test_the_highest_rate_that_meets_is_found_from_either_side(first: float, limit: float) -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "met" if rate <= limit else "missed"

    found = search(probe, first)
    assert found.rate is not None
    assert found.rate <= limit < found.rate * TOLERANCE
    assert not found.bound_by_generator
    assert len(asked) <= MAX_PROBES


def test_a_server_that_never_meets_is_given_up_on() -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "missed"

    assert search(probe, 100.0) == Found(None, False)
    assert min(asked) >= 100 / 16
    assert len(asked) < MAX_PROBES


def test_a_void_run_ends_the_search_and_says_so() -> None:
    found = search(lambda rate: "met" if rate <= 100 else "void", 90.0)
    assert found.rate is not None
    assert 95 <= found.rate <= 100
    assert found.bound_by_generator


def test_a_miss_below_a_void_run_takes_its_place() -> None:
    found = search(lambda rate: "met" if rate <= 100 else "missed" if rate <= 150 else "void", 200.0)
    assert found.rate is not None
    assert 95 <= found.rate <= 100
    assert not found.bound_by_generator


def test_the_search_is_short_where_the_first_guess_is_good() -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "met" if rate <= 104 else "missed"

    search(probe, 100.0, 1.1)
    assert len(asked) <= 4
