"""Ways to run one batch size on a GPU, and the search for the fastest of them that computes the same."""

import logging
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from resnet_server.engines.api import Images, Logits
from resnet_server.errors import EngineError

log = logging.getLogger(__name__)

WARM_UPS = 3  # two before ONNX Runtime captures a CUDA graph, and the capture
LEAST_RUNS, LEAST_SECONDS = 7, 0.05
GAIN = 0.97  # a change must be so much faster: less is noise


@dataclass(frozen=True)
class Tactic:
    """The plainest, which any GPU has: NCHW, algorithms as cuDNN's heuristic names them, every kernel launched by itself."""

    nhwc: bool = False
    exhaustive: bool = False
    graph: bool = False
    tensorrt: bool = False

    def __str__(self) -> str:
        on = (("NHWC", self.nhwc), ("exhaustive search", self.exhaustive), ("CUDA graph", self.graph), ("TensorRT", self.tensorrt))
        return ", ".join(name for name, used in on if used) or "plain"


class Bound(Protocol):
    """What runs batches of one size."""

    def run(self, images: Images) -> Logits:
        """UINT8 [rows, h, w, 3] to FP32 [rows, classes]; raise EngineError if it fails."""


@dataclass
class Choice:
    """What runs a bucket now, and the seconds a batch took; `expected` are the logits of the plainest tactic."""

    tactic: Tactic
    bound: Bound
    seconds: float
    expected: Logits


Opener = Callable[[int, Tactic], Bound]
Change = Callable[[Tactic], Tactic]


@dataclass(frozen=True)
class Comparison:
    """How candidates are judged: `images` are timed, `others` must give the plainest tactic's logits within `tolerance`.

    `tolerance` is a share of the largest logit. `seconds` limits the whole search; `clock` counts them.
    """

    images: Images
    others: Images
    tolerance: float
    seconds: float
    clock: Callable[[], float]


class Tuner:
    """Tries one change after the other in every bucket, from the largest, and keeps what is faster and computes the same."""

    def __init__(self, open_bound: Opener, comparison: Comparison) -> None:
        self._open = open_bound
        self._comparison = comparison

    def tune(self, plain: dict[int, Bound], changes: Sequence[Change]) -> dict[int, Choice]:
        """Return what runs each bucket best; raise EngineError if the plainest tactic, which `plain` holds opened, fails."""
        ends = self._comparison.clock() + self._comparison.seconds
        best = {rows: self._judge(Tactic(), bound, rows) for rows, bound in plain.items()}
        for change in changes:
            for rows in sorted(best, reverse=True):
                if self._comparison.clock() > ends:
                    log.info("tactics: the search ended after %g s; larger changes were not tried everywhere", self._comparison.seconds)
                    return best
                try:
                    best[rows] = self._better(best[rows], change(best[rows].tactic), rows)
                except EngineError as error:
                    log.warning("tactics: %s is not used: at batch %d %s", change(Tactic()), rows, error)
                    break  # what fails in one size is not worth the time in the others
        return best

    def _better(self, best: Choice, tactic: Tactic, rows: int) -> Choice:
        found = self._judge(tactic, self._open(rows, tactic), rows)
        if error := difference(found.expected, best.expected, self._comparison.tolerance):
            raise EngineError(error)
        if found.seconds >= GAIN * best.seconds:
            return best
        return Choice(tactic, found.bound, found.seconds, best.expected)

    def _judge(self, tactic: Tactic, bound: Bound, rows: int) -> Choice:
        """Time it on some images, then compute others: a graph must read what is in the buffer, not what it was captured with."""
        seconds = self._time(bound, self._comparison.images[:rows])
        return Choice(tactic, bound, seconds, bound.run(self._comparison.others[:rows]))

    def _time(self, bound: Bound, images: Images) -> float:
        clock = self._comparison.clock
        for _ in range(WARM_UPS):
            bound.run(images)
        times: list[float] = []
        ends = clock() + LEAST_SECONDS
        while len(times) < LEAST_RUNS or clock() < ends:
            started = clock()
            bound.run(images)
            times.append(clock() - started)
        return statistics.median(times)


def difference(found: Logits, expected: Logits, tolerance: float) -> str:
    """Say how far FP32 [rows, classes] is from what was expected, or nothing where it is near enough."""
    if found.shape != expected.shape or not np.isfinite(found).all():
        return f"it gave {'other than finite numbers' if found.shape == expected.shape else f'the shape {found.shape}'}"
    error, limit = float(np.abs(found - expected).max()), tolerance * max(1.0, float(np.abs(expected).max()))
    return f"it is off by {error:.2g} in a logit; the most is {limit:.2g}" if error > limit else ""
