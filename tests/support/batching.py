"""A batcher with an injected clock, and engines that finish when the test says so."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
from numpy.typing import NDArray
from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import BatchReport, Limits, Watchers
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.row_queue import NORMAL
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import Images, Outcome
from resnet_server.errors import (
    ServingError,
)


class Timer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeClock:
    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Timer]] = []
        self.order = itertools.count()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self.timers, (when, next(self.order), timer))
        return timer

    async def advance(self, seconds: float) -> None:
        self.now += seconds
        while self.timers and self.timers[0][0] <= self.now:
            timer = heapq.heappop(self.timers)[2]
            if timer.callback is not None:
                timer.callback()
        await settle()


class HeldEngine:
    """Computes row -> its first byte, once `release` is called; keeps what it was given."""

    ready = True

    def __init__(self, depth: int = 1) -> None:
        self.depth = depth
        self.batches: list[list[int]] = []
        self.alone: list[bool] = []
        self.networks: list[int] = []
        self.extra_rows = 0
        self.held: deque[tuple[NDArray[np.float32], Callable[[Outcome], None]]] = deque()
        self.changed: Callable[[], None] = lambda: None
        self.kills = 0

    def kill(self) -> None:
        self.kills += 1

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        assert len(self.held) < self.depth
        values = np.concatenate([part[:, 0, 0, :1] for part in parts]).astype(np.float32)
        assert len(values) == rows
        self.batches.append([int(value) for value in values[:, 0]])
        self.alone.append(alone)
        self.networks.append(network)
        self.held.append((values, done))

    async def release(self, error: ServingError | None = None, seconds: float = 0.0, begun: bool = True) -> None:
        values, done = self.held.popleft()
        logits = np.concatenate([values, np.zeros((self.extra_rows, 1), np.float32)])
        done(Outcome(None if error else logits, seconds, error, begun))
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def image(*values: int) -> Images:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


@asynccontextmanager
async def batching(
    engines: Sequence[HeldEngine],
    clock: FakeClock | None = None,
    *,
    max_batch: int = 8,
    max_queue_rows: int = 64,
    max_request: int | None = None,
    max_delay: float | None = None,
    grain: int = 1,
    least_grain: int | None = None,
    cost: CostModel | None = None,
    reports: list[BatchReport] | None = None,
) -> AsyncIterator[Batcher]:
    seen: list[BatchReport] = [] if reports is None else reports
    limits = Limits(max_request or max_batch, max_batch, max_queue_rows, max_delay, grain, least_grain=least_grain)
    admission = Admission(cost, max_batch) if cost else None
    batcher = Batcher(engines, limits, clock or FakeClock(), admission, Watchers(on_batch=seen.append))
    await settle()
    try:
        yield batcher
    finally:
        await batcher.close()


async def ask(batcher: Batcher, *values: int, deadline: float | None = None, priority: int = NORMAL) -> "asyncio.Task[Answer]":
    task = asyncio.create_task(batcher.submit(image(*values), deadline, priority))
    await settle()
    return task


def values_of(answer: Answer) -> list[int]:
    return [int(value) for value in answer.logits[:, 0]]
