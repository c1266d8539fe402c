"""The search for the capacity, with a server that is a function, still or noisy."""

from collections.abc import Callable

import numpy as np
import pytest
from resnet_bench.capacity import MAX_PROBES, TOLERANCE, Found, Verdict, capacity, search, seconds_for, settled, verdict
from resnet_bench.sample import Sample


def never(rate: float) -> Verdict:
    raise AssertionError(f"{rate} was not to be confirmed")


@pytest.mark.parametrize("first", [20.0, 100.0, 380.0])
@pytest.mark.parametrize("limit", [100.0, 130.0])
def test_the_highest_rate_that_meets_is_found_from_either_side(first: float, limit: float) -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "met" if rate <= limit else "missed"

    found, bound = search(probe, first)
    assert found is not None
    assert found <= limit < found * TOLERANCE
    assert not bound
    assert len(asked) <= MAX_PROBES


def test_a_server_that_never_meets_is_given_up_on() -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "missed"

    assert capacity(probe, never, 100.0) == Found(None, None, False)
    assert min(asked) >= 100 / 16
    assert len(asked) < MAX_PROBES


def test_a_void_run_ends_the_search_and_says_so() -> None:
    found, bound = search(lambda rate: "met" if rate <= 100 else "void", 90.0)
    assert found is not None
    assert 95 <= found <= 100
    assert bound


def test_a_miss_below_a_void_run_takes_its_place() -> None:
    found, bound = search(lambda rate: "met" if rate <= 100 else "missed" if rate <= 150 else "void", 200.0)
    assert found is not None
    assert 95 <= found <= 100
    assert not bound


def test_the_search_is_short_where_the_first_guess_is_good() -> None:
    asked: list[float] = []

    def probe(rate: float) -> Verdict:
        asked.append(rate)
        return "met" if rate <= 104 else "missed"

    search(probe, 100.0, 1.1)
    assert len(asked) <= 4


@pytest.mark.parametrize(
    ("verdicts", "expected", "runs"),
    [
        (["met"], "met", 1),
        (["missed"], "missed", 1),
        (["near", "met", "met"], "met", 3),
        (["near", "met", "near"], "missed", 3),
        (["near", "near"], "missed", 2),
        (["void"], "void", 1),
    ],
)
def test_a_near_miss_is_decided_by_two_of_three(verdicts: list[Verdict], expected: str, runs: int) -> None:
    left = list(verdicts)
    assert settled(lambda _: left.pop(0), 1.0) == expected
    assert len(verdicts) - len(left) == runs


def test_a_rate_that_a_longer_run_does_not_confirm_is_lowered() -> None:
    found = capacity(lambda rate: "met" if rate <= 104 else "missed", lambda rate: "met" if rate <= 90 else "missed", 100.0)
    assert found.rate is not None
    assert found.confirmed is not None
    assert 90 / 1.2 <= found.confirmed <= 90 < found.rate


def test_a_rate_that_is_never_confirmed_is_no_capacity() -> None:
    found = capacity(lambda rate: "met" if rate <= 104 else "missed", lambda _: "missed", 100.0)
    assert found.rate is not None
    assert found.confirmed is None


def noisy(random: np.random.Generator, calls: int) -> Callable[[float], Verdict]:
    """A server whose calls are late by chance: rarely below 100 calls a second, ever more above; and stalls in one run of ten."""

    def run(rate: float) -> Verdict:
        late = 0.002 + 0.5 * max(0.0, rate / 100 - 1) + (0.03 if random.random() < 0.1 else 0.0)
        goodput = 1 - random.binomial(calls, min(1.0, late)) / calls
        return "met" if goodput >= 0.99 else "near" if goodput >= 0.9 else "missed"

    return run


def test_on_a_noisy_machine_the_lowest_confirmed_rate_holds() -> None:
    """Of single short runs alone, one search in four ends above what the server bears in the long run."""
    random = np.random.default_rng(3)
    published = []
    for _ in range(200):
        found = [capacity(noisy(random, 300), noisy(random, 3000), 90.0).confirmed for _ in range(5)]
        published.append(min(rate for rate in found if rate))
    borne = 101.6  # where 1 % of the calls are late in the long run
    assert np.mean(np.array(published) <= borne) > 0.99
    assert np.median(published) > 80


def sample(goodput: float, service: float | None = None, void: str = "") -> Sample:
    in_time, service_in_time = round(1000 * goodput), round(1000 * (goodput if service is None else service))
    return Sample(
        "m", "d", "poisson", 1.0, 0, 1, 1.0, 0.05, None, 0, calls=1000, in_time=in_time, service_in_time=service_in_time, void=void
    )


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (sample(0.99), "met"),
        (sample(0.989), "near"),
        (sample(0.89), "missed"),
        (sample(1.0, void="the generator lagged"), "void"),
        (sample(0.0, 0.5, void="the generator lagged"), "missed"),
        (sample(0.0, 0.0, void="disturbed: other programs used 1.00 cores"), "void"),
    ],
)
def test_what_a_run_says_of_its_rate(run: Sample, expected: str) -> None:
    assert verdict(run) == expected


def test_slow_servers_are_measured_longer_within_bounds() -> None:
    assert [seconds_for(rate, 1000, 3.0, 30.0) for rate in (1000, 100, 1)] == [3.0, 10.0, 30.0]
