"""Raw ONNX Runtime in a process of its own: what the same file does on the same cores without a service around it."""

import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from resnet_bench.drivers.api import Load, Observer, sample_of
from resnet_bench.errors import BenchError
from resnet_bench.published import Published
from resnet_bench.requests import Requests
from resnet_bench.sample import OK, Sample
from resnet_bench.target import Target

P = ParamSpec("P")
R = TypeVar("R")

BATCHES = (1, 8, 32, 64)
TRIAL_SECONDS, FINAL_SECONDS, FINALISTS = 0.4, 1.5, 3
# Share of the largest logit that an answer may be off: summation order in fp32, a rounding step where it is quantised.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}


@dataclass(frozen=True)
class Plan:
    """`sessions` sessions of `threads` intra-op threads each, fed `batch` rows at a time; idle threads spin or sleep."""

    sessions: int
    threads: int
    batch: int
    spinning: bool = False

    def __str__(self) -> str:
        spin = ", spinning" if self.spinning else ""
        return f"{self.sessions} x {self.threads} threads{spin}, batches of {self.batch}"


class Raw:
    """The driver: a closed loop inside the process, as many sessions as the plan has. It needs no target and no observer."""

    name = "onnxruntime"

    def __init__(self, published: Published, provider: str, plan: Plan) -> None:
        self._published, self._provider, self.plan = published, provider, plan

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """As every driver."""
        observer.begin()
        rate = throughput(self._published, self._provider, self.plan, load.seconds)
        observer.end()
        asked = replace(load, arrivals="closed", rate=0.0, concurrency=self.plan.sessions, rows=self.plan.batch)
        calls = round(rate * load.seconds / self.plan.batch)
        return replace(sample_of(asked, self.name), calls=calls, outcomes={OK: calls}, answered=calls)


def plans(cores: int) -> list[Plan]:
    """Every way to share the cores evenly, with every batch size, spinning and not."""
    layouts = [(sessions, cores // sessions) for sessions in range(1, cores + 1) if cores % sessions == 0]
    return [Plan(*layout, batch, spinning) for layout in layouts for batch in BATCHES for spinning in (False, True)]


def best_plan(published: Published, provider: str, cores: int, candidates: Sequence[Plan] = ()) -> Plan:
    """The fastest: all in a short trial, the best three in a longer one."""

    def by_rate(some: Sequence[Plan], seconds: float) -> list[Plan]:
        rates = {plan: throughput(published, provider, plan, seconds) for plan in some}
        return sorted(some, key=lambda plan: -rates[plan])

    first = by_rate(candidates or plans(cores), TRIAL_SECONDS)
    return by_rate(first[:FINALISTS], FINAL_SECONDS)[0]


def throughput(published: Published, provider: str, plan: Plan, seconds: float) -> float:
    """Images a second of `plan`, measured in a fresh process."""
    return isolated(_measure, published.path, provider, plan, published.material.window(0, plan.batch).images, seconds)


def expected_logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What raw ONNX Runtime answers on one thread, computed in a fresh process."""
    return isolated(_logits, path, images)


def isolated(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a module's function in a new process and return what it returns; its exceptions come through."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _leave_interrupts_to_the_parent) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent saves what was measured


def _measure(path: Path, provider: str, plan: Plan, images: NDArray[np.uint8], seconds: float) -> float:
    sessions = [_open(path, provider, plan.threads, plan.spinning) for _ in range(plan.sessions)]
    for session in sessions:
        session.run(None, {"image": images})
    counts = [0] * len(sessions)
    begin = threading.Barrier(len(sessions) + 1)

    def work(index: int) -> None:
        begin.wait()
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            sessions[index].run(None, {"image": images})
            counts[index] += len(images)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(sessions))]
    for thread in threads:
        thread.start()
    begin.wait()
    started = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def _logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = _open(path, "CPUExecutionProvider", 1, False).run(None, {"image": images})[0]
    return logits


def _open(path: Path, provider: str, threads: int, spinning: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise BenchError(f"raw: {provider} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}")
    return session
