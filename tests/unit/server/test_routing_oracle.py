"""The bound that nothing can exceed: against every way through tiny traces, and against the policy on larger ones."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from resnet_server.routing import traces
from resnet_server.routing.member import Member
from resnet_server.routing.oracle import STEPS, bound
from resnet_server.routing.policy import DepthPolicy
from resnet_server.routing.simulator import ByPolicy, Fixed, Simulation, Workshop

CHEAP, DEAR = Member("a", "fp32", 20, 0.9, 0.0, 0.001), Member("b", "fp32", 56, 0.95, 0.0, 0.003)
FRONT = (CHEAP, DEAR)
SHOP = Workshop(engines=1, max_batch=1, deadline=0.0085, way_back=0.0)


def best_of_all(arrivals: list[float]) -> float:
    """The largest sum of accuracies over every choice for every call, one after the other."""
    best = 0.0
    for choices in itertools.product((None, *FRONT), repeat=len(arrivals)):
        free, total = 0.0, 0.0
        for at, member in zip(arrivals, choices, strict=True):
            if member is None:
                continue
            free = max(free, at) + member.seconds(1)
            if free > at + SHOP.deadline + 1e-12:
                break
            total += member.accuracy
        else:
            best = max(best, total)
    return best


@settings(max_examples=40)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=6))
def test_it_is_at_least_the_best_of_all_ways_and_not_much_more(milliseconds: list[int]) -> None:
    arrivals = sorted(count / 1000 for count in milliseconds)
    found = bound(FRONT, SHOP, np.array(arrivals))
    total, best = found.in_time * found.accuracy, best_of_all(arrivals)
    assert total >= best - 1e-9
    dearer = tuple(Member(m.name, m.precision, m.depth, m.accuracy, 0.0, m.per_row * (1 - 2 / STEPS)) for m in FRONT)
    with pytest.MonkeyPatch.context() as patch:  # what rounding down can gain is what networks a little faster would
        patch.setattr(f"{__name__}.FRONT", dearer)
        assert total <= best_of_all(arrivals) + 1e-9


def test_what_cannot_all_be_answered_is_answered_as_far_as_it_goes() -> None:
    found = bound((CHEAP,), SHOP, np.zeros(20))
    assert found.in_time == 8  # a millisecond each, within 8.5
    assert found.offered == 20
    assert found.accuracy == pytest.approx(0.9)
    assert bound(FRONT, SHOP, np.array([])).attainment == 0


@pytest.mark.parametrize("cv2", [1.0, 8.0])
def test_no_way_through_the_simulator_exceeds_it(cv2: float) -> None:
    shop = Workshop(engines=2, max_batch=8, deadline=0.03)
    arrivals = traces.gamma(900.0, cv2, 1.5, 3)
    best = bound(FRONT, shop, arrivals)
    for chooser, cheapest in ((ByPolicy(DepthPolicy(FRONT, 8)), CHEAP), (Fixed(CHEAP), CHEAP), (Fixed(DEAR), DEAR)):
        result = Simulation(shop, chooser, cheapest).run(arrivals)
        assert result.accuracy_sum <= best.in_time * best.accuracy + 1e-6
        names = [name for name in result.answered_by if name]
        assert len(names) == result.in_time
        assert {name: names.count(name) for name in set(names)} == result.by_member
