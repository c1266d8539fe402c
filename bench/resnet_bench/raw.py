"""Raw ONNX Runtime in a process of its own: what the same file does on the same cores without a service around it."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from resnet_bench.errors import BenchError
from resnet_bench.isolated import isolated
from resnet_bench.material import Material

BATCHES = (1, 8, 32)
TRIAL_SECONDS = 0.7


@dataclass(frozen=True)
class RawPlan:
    """`sessions` sessions of `threads` intra-op threads each, fed `batch` rows at a time."""

    sessions: int
    threads: int
    batch: int

    def __str__(self) -> str:
        return f"{self.sessions} x {self.threads} threads, batch {self.batch}"


def best_plan(path: Path, provider: str, material: Material, cores: int) -> RawPlan:
    """The plan with the highest throughput in a short trial."""
    layouts = sorted({(1, cores), (cores, 1)})
    plans = [RawPlan(sessions, threads, batch) for sessions, threads in layouts for batch in BATCHES]
    rates = [throughput(path, provider, plan, material, TRIAL_SECONDS) for plan in plans]
    return plans[rates.index(max(rates))]


def throughput(path: Path, provider: str, plan: RawPlan, material: Material, seconds: float) -> float:
    """Images a second of `plan`, measured in a fresh process."""
    return isolated(_run, path, provider, plan, material.window(0, plan.batch).images, seconds)


def _run(path: Path, provider: str, plan: RawPlan, images: NDArray[np.uint8], seconds: float) -> float:
    sessions = [_open(path, provider, plan.threads) for _ in range(plan.sessions)]
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


def _open(path: Path, provider: str, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise BenchError(f"raw: {provider} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}")
    return session
