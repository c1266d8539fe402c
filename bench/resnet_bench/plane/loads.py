"""The loads that a group is judged by, in multiples of what its deepest and its shallowest network can answer."""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_server.routing import traces
from resnet_server.routing.traces import Times

STEPS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
GAMMAS = (1, 2, 4, 8)


@dataclass(frozen=True)
class LoadKind:
    """A name, what it is, and arrivals for given capacities (calls a second of the shallowest and the deepest) and seed."""

    name: str
    text: str
    arrivals: Callable[[float, float, int], Times]


def loads(seconds: float) -> list[LoadKind]:
    """Each about `seconds` long."""
    found = [
        LoadKind(
            "near the limit",
            "Poisson at 0.9 of the shallowest's capacity",
            lambda low, deep, seed: traces.poisson(0.9 * low, seconds, seed),
        ),
        LoadKind(
            "steps",
            "Poisson at 0.5, 1 ... 3 times the deepest's capacity, at most 0.95 of the shallowest's",
            lambda low, deep, seed: traces.steps(tuple(min(0.95 * low, step * deep) for step in STEPS), seconds / len(STEPS), seed),
        ),
        LoadKind(
            "burst",
            "Poisson at 0.4 of the deepest's capacity, five times as much for the middle third",
            lambda low, deep, seed: traces.square_burst(0.4 * deep, 5, seconds / 3, seconds / 3, seconds / 3, seed),
        ),
        LoadKind(
            "day",
            "a day with the measured shape of a social network's traffic, pressed together, its mean 0.5 of the deepest's capacity",
            lambda low, deep, seed: traces.social(0.5 * deep, seconds, seed, day=seconds),
        ),
    ]
    return found + [gamma(cv2, seconds) for cv2 in GAMMAS]


def gamma(cv2: int, seconds: float) -> LoadKind:
    """Gamma gaps of this squared coefficient of variation."""
    text = f"gamma gaps of squared coefficient of variation {cv2}, at 0.9 of the deepest's capacity"
    return LoadKind(f"gamma {cv2}", text, lambda low, deep, seed: traces.gamma(0.9 * deep, cv2, seconds, seed))
