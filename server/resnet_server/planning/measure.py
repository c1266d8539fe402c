"""Measuring plans, in a process of its own: what crashes or leaks there is gone afterwards.

Reads a `Task` as JSON from stdin and writes what it found to a descriptor: stdout belongs to whatever library likes to talk.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnet_server.engines.api import ONNXRUNTIME, Device, EngineSpec, power_of_two_buckets
from resnet_server.engines.compute import Compute
from resnet_server.engines.runtimes import own_sizes
from resnet_server.errors import EngineError
from resnet_server.planning.disturbance import processor_time
from resnet_server.planning.plan import UNDISTURBED, Trial

FIRST_ROWS = 8
HOPELESS = 1.4  # a precision so much slower than the fastest is not tried further
DOMINATED = 1.2  # nor a member of a group beside one that is as accurate and so much faster
LEAST_SECONDS = 0.02


@dataclass(frozen=True)
class Task:
    """`files` by precision, `layouts` of engines x threads (the preferred first), and `seconds` for all trials of `runtime`.

    With `accuracies` the files are a group's, by the labels of its members, which all serve together: an accurate one may be slow.
    """

    files: dict[str, str]
    device: tuple[str, str, str, int, str]
    layouts: tuple[tuple[int, int], ...]
    max_batch: int
    height: int
    width: int
    seconds: float
    channels: int = 3
    accuracies: dict[str, float] = field(default_factory=dict)
    runtime: str = ONNXRUNTIME


@dataclass(frozen=True)
class Found:
    """The trials, and the precisions that the runtime refuses, with the reason."""

    trials: tuple[Trial, ...]
    broken: dict[str, str]


class Bench:
    """Runs the trials of one task within its time."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._buckets = power_of_two_buckets(task.max_batch)
        self._images = np.random.default_rng(0).integers(0, 256, (task.max_batch, task.height, task.width, task.channels), dtype=np.uint8)
        self._ends = time.perf_counter() + task.seconds
        self.trials: list[Trial] = []
        self.broken: dict[str, str] = {}

    def run(self) -> Found:
        """The first layout in every precision, then what is worth it."""
        first = self._task.layouts[0]
        rows = min(FIRST_ROWS, self._task.max_batch)
        share = self._task.seconds / (len(self._task.files) * (1 + len(self._task.layouts) * (1 + len(self._buckets))))
        trials: dict[str, Trial] = {}
        for precision in self._task.files:
            try:
                trials[precision] = self._measure(precision, first, self._open(precision, *first), rows, share)
            except EngineError as error:
                self.broken[precision] = str(error)
        rates = {precision: trial.throughput for precision, trial in trials.items()}
        calm = all(trial.share >= UNDISTURBED for trial in trials.values())
        worth = promising(rates, self._task.accuracies, calm)
        share *= len(self._task.files) / max(1, len(worth))
        for layout in self._task.layouts:
            for precision in sorted(worth, key=lambda name: -rates[name]):
                self._measure_layout(precision, layout, share)
        self._measure_wide(worth, share)
        return Found(tuple(self.trials), self.broken)

    def _measure_layout(self, precision: str, layout: tuple[int, int], share: float) -> None:
        computes = self._open(precision, *layout)
        known: Trial | None = None
        if layout[0] > 1:
            self._measure(precision, (1, layout[1]), computes[:1], 1, share)
        for rows in self._buckets:
            expected = known.seconds * rows / known.rows if known else 0.0
            if known and (expected > 2 * share or time.perf_counter() + expected > self._ends):
                return
            known = self._measure(precision, layout, computes, rows, share)

    def _measure_wide(self, precisions: Sequence[str], share: float) -> None:
        """One image on all cores, with threads that spin; not where the layout is given, or there is but one core."""
        most = max(engines * threads for engines, threads in self._task.layouts)
        if len(self._task.layouts) > 1:
            for precision in precisions:
                self._measure(precision, (1, most), self._open(precision, 1, 1, most), 1, share, wide=True)

    def _open(self, precision: str, engines: int, threads: int, wide: int = 0) -> list[Compute]:
        task = self._task
        shape = (task.max_batch, task.height, task.width, 0)
        path = Path(task.files[precision])
        spec = EngineSpec(path, Device(*task.device), threads, wide, *shape, channels=task.channels)
        spec = replace(spec, runtime=task.runtime, own_sizes=own_sizes(task.runtime, [path]))
        return [Compute(spec) for _ in range(engines)]

    def _measure(
        self, precision: str, layout: tuple[int, int], computes: list[Compute], rows: int, seconds: float, wide: bool = False
    ) -> Trial:
        """A batch takes the median of each engine's batches, in the mean over the engines, while all are busy.

        Not the time of all batches by their number: an engine that waits for the other's last batch would count against large ones.
        """
        self._prepare(computes, rows, wide)
        taken: list[list[float]] = [[] for _ in computes]

        def work(index: int, barrier: threading.Barrier) -> None:
            computes[index].run(self._images, rows, wide)
            barrier.wait()
            now = time.perf_counter()
            ends = now + max(LEAST_SECONDS, seconds)
            while now < ends or not taken[index]:
                computes[index].run(self._images, rows, wide)
                began, now = now, time.perf_counter()
                taken[index].append(now - began)

        share = share_of(len(computes), work)
        trial = Trial(precision, *layout, rows, float(np.mean([np.median(times) for times in taken])), wide, share, self._task.runtime)
        self.trials = [*(t for t in self.trials if (t.layout, t.rows, t.wide) != (trial.layout, rows, wide)), trial]
        return trial

    def _prepare(self, computes: list[Compute], rows: int, wide: bool) -> None:
        """Compile what is not compiled yet; none of the time for trials is used up by that."""
        began = time.perf_counter()
        with ThreadPoolExecutor(len(computes)) as pool:
            for prepared in [pool.submit(compute.prepare, rows, wide) for compute in computes]:
                prepared.result()
        self._ends += time.perf_counter() - began


def share_of(count: int, work: Callable[[int, threading.Barrier], None]) -> float:
    """Run `work` on a thread each, which all meet at the barrier; of the processor time that they want from there on, what they get.

    Raises the EngineError of one that fails, once all have ended.
    """
    barrier = threading.Barrier(count + 1)
    failed: list[EngineError] = []

    def run(index: int) -> None:
        try:
            work(index, barrier)
        except threading.BrokenBarrierError:  # another one failed
            return
        except EngineError as error:
            failed.append(error)
            barrier.abort()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    before = processor_time()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return processor_time().share_since(before)


def promising(rates: dict[str, float], accuracies: dict[str, float], calm: bool = True) -> list[str]:
    """The files to try further, from their images a second; all files of a group if the machine was not calm."""
    if not accuracies:
        return [precision for precision, rate in rates.items() if HOPELESS * rate >= max(rates.values())]

    def dominated(label: str) -> bool:
        return any(accuracies[other] >= accuracies[label] and rate > DOMINATED * rates[label] for other, rate in rates.items())

    return [label for label in rates if not calm or not dominated(label)]


def layouts(cores: int, engines: int | None, threads: int | None) -> Iterator[tuple[int, int]]:
    """Engines x threads that use all cores, the most engines first; what is given is kept."""
    if engines and threads:
        yield engines, threads
        return
    if engines or threads:
        other = max(1, cores // (engines or threads or 1))
        yield (engines, other) if engines else (other, threads or 1)
        return
    count = cores
    while count >= 1:
        yield count, max(1, cores // count)
        count //= 2


def main() -> None:
    """Run the task on stdin; arguments: the descriptor for the result, and how nice to be to other processes."""
    os.nice(int(sys.argv[2]))
    values: dict[str, Any] = json.load(sys.stdin)
    found = Bench(Task(**values)).run()
    with os.fdopen(int(sys.argv[1]), "w", encoding="utf-8") as result:
        json.dump(asdict(found), result)
