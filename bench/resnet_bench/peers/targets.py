"""The preset `targets`: what the server is to reach against Triton, and on random weights where trained ones are not at hand."""

from pathlib import Path

from resnet_bench.limit.random_weights import SERVE_ANYWAY
from resnet_bench.peers.work import Aim, Work

PEERS = ("ours", "triton")
SEVERAL_ROWS = (Aim(16, 8, 1.0), Aim(16, 32, 1.0))
SINGLES = {"resnet56": (1.3, 1.05, 1.0), "resnet20": (1.1, 1.0, 1.0)}
IN_FLIGHT = (1, 16, 64)


def trained(repository: Path) -> tuple[Work, ...]:
    """resnet56 and resnet20: the same fp32 file, and resnet20 as it is served by default against the fp32 file."""

    def aims(ratios: tuple[float, ...]) -> tuple[Aim, ...]:
        return (*(Aim(in_flight, 1, least, True) for in_flight, least in zip(IN_FLIGHT, ratios, strict=True)), *SEVERAL_ROWS)

    same_file = (Work(repository, model, "fp32", "fp32", aims(ratios)) for model, ratios in SINGLES.items())
    return (*same_file, Work(repository, "resnet20", "auto", "fp32", (Aim(64, 1, 1.4),)))


def untrained(repository: Path) -> Work:
    """resnet50 with random weights: INT8 against the fp32 file."""
    return Work(repository, "resnet50", "int8", "fp32", (Aim(16, 1, 3.0),), SERVE_ANYWAY)
