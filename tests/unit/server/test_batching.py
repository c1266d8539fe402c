"""The batcher's rules, with an injected clock and runners that finish when the test says so."""

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from numpy.typing import NDArray
from resnet_server.admission import Admission
from resnet_server.batching import Batcher, BatchReport, Limits, Watchers
from resnet_server.cost import CostModel
from resnet_server.engines.interface import Images, Outcome
from resnet_server.errors import (
    DeadlineError,
    EngineDiedError,
    EngineError,
    InvalidRequestError,
    LateError,
    ModelUnavailableError,
    QueueFullError,
    ServingError,
    UnreachableDeadlineError,
)
from resnet_server.queueing import HIGH, LOW, NORMAL, Answer


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
        self.extra_rows = 0
        self.held: deque[tuple[NDArray[np.float32], Callable[[Outcome], None]]] = deque()
        self.changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None]) -> None:
        assert len(self.held) < self.depth
        values = np.concatenate([part[:, 0, 0, :1] for part in parts]).astype(np.float32)
        assert len(values) == rows
        self.batches.append([int(value) for value in values[:, 0]])
        self.alone.append(alone)
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
    cost: CostModel | None = None,
    reports: list[BatchReport] | None = None,
) -> AsyncIterator[Batcher]:
    seen: list[BatchReport] = [] if reports is None else reports
    limits = Limits(max_request or max_batch, max_batch, max_queue_rows, max_delay, grain)
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


async def test_an_idle_engine_starts_at_once_and_requests_gather_while_it_is_busy() -> None:
    runner = HeldEngine()
    reports: list[BatchReport] = []
    async with batching([runner], reports=reports) as batcher:
        first = await ask(batcher, 1)
        assert runner.batches == [[1]]
        rest = [await ask(batcher, value) for value in (2, 3, 4)]
        assert runner.batches == [[1]]
        await runner.release()
        assert runner.batches == [[1], [2, 3, 4]]
        await runner.release()
        assert values_of(await first) == [1]
        assert [values_of(await task) for task in rest] == [[2], [3], [4]]
        assert [(report.rows, report.tickets) for report in reports] == [(1, 1), (3, 3)]


async def test_answers_say_how_long_they_waited_and_computed() -> None:
    runner, clock = HeldEngine(), FakeClock()
    async with batching([runner], clock) as batcher:
        await ask(batcher, 1)
        second = await ask(batcher, 2, 3)
        await clock.advance(0.25)
        await runner.release()
        await clock.advance(0.5)
        await runner.release()
        answer = await second
        assert (answer.queue_seconds, answer.compute_seconds, answer.batch_rows) == (0.25, 0.5, 2)


async def test_a_batch_is_full_and_a_request_may_lie_in_two_of_them() -> None:
    engine = HeldEngine()
    async with batching([engine], max_batch=4) as batcher:
        tasks = [await ask(batcher, 0)]
        tasks += [await ask(batcher, *values) for values in ((1, 2, 3), (4, 5), (6,))]
        for _ in range(3):
            await engine.release()
        assert engine.batches == [[0], [1, 2, 3, 4], [5, 6]]
        assert [values_of(await task) for task in tasks] == [[0], [1, 2, 3], [4, 5], [6]]


async def test_two_engines_share_the_queue_evenly() -> None:
    left, right = HeldEngine(), HeldEngine()
    async with batching([left, right]) as batcher:
        for value in range(8):
            await ask(batcher, value)
        assert (left.batches, right.batches) == ([[0]], [[1]])
        await left.release()
        await right.release()
        assert (left.batches[1], right.batches[1]) == ([2, 3, 4, 5], [6, 7])


async def test_the_rows_of_one_request_go_to_the_engines_in_equal_parts_not_in_ever_smaller_ones() -> None:
    left, right = HeldEngine(depth=2), HeldEngine(depth=2)
    async with batching([left, right], max_batch=16) as batcher:
        await ask(batcher, *range(8))
        assert (left.batches, right.batches) == ([[0, 1, 2, 3]], [[4, 5, 6, 7]])


async def test_what_lies_ready_is_an_even_share_of_all_that_is_here_and_a_smaller_one_waits_for_an_idle_engine() -> None:
    left, right = HeldEngine(depth=2), HeldEngine(depth=2)
    async with batching([left, right], max_batch=16) as batcher:
        await ask(batcher, *range(12))
        assert (left.batches, right.batches) == ([list(range(6))], [list(range(6, 12))])
        await ask(batcher, 12, 13)
        assert (left.batches[1:], right.batches[1:]) == ([], [])  # 14 rows on 4 places are 3 each
        await ask(batcher, *range(14, 20))
        assert (left.batches[1:], right.batches[1:]) == ([[12, 13, 14, 15, 16]], [])  # 20 rows: 5 each
        await left.release()
        assert (left.batches[2:], right.batches[1:]) == ([[17, 18, 19]], [])  # 14 rows again


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("when", ["queued", "running"])
async def test_cancelling_any_position_leaves_its_neighbours_right(position: int, when: str) -> None:
    runner = HeldEngine()
    async with batching([runner]) as batcher:
        await ask(batcher, 9)
        tasks = [await ask(batcher, value) for value in (10, 11, 12)]
        if when == "running":
            await runner.release()
        tasks[position].cancel()
        await settle()
        if when == "queued":
            assert batcher.queued_rows == 2
            await runner.release()
        await runner.release()
        left = [value for i, value in enumerate((10, 11, 12)) if i != position]
        assert runner.batches[1] == (left if when == "queued" else [10, 11, 12])
        assert [values_of(await task) for i, task in enumerate(tasks) if i != position] == [[value] for value in left]
        assert tasks[position].cancelled()


async def test_a_queued_request_is_answered_at_its_deadline_and_never_computed() -> None:
    runner, clock = HeldEngine(), FakeClock()
    async with batching([runner], clock) as batcher:
        running = await ask(batcher, 1)
        late, patient = await ask(batcher, 2, deadline=1.0), await ask(batcher, 3)
        await clock.advance(0.999)
        assert not late.done()
        await clock.advance(0.001)
        with pytest.raises(DeadlineError, match="while the request was queued"):
            await late
        assert batcher.queued_rows == 1
        await runner.release()
        await runner.release()
        assert runner.batches == [[1], [3]]
        assert (values_of(await running), values_of(await patient)) == ([1], [3])


async def test_who_cannot_be_answered_in_time_any_more_is_told_so_before_the_next_batch_and_not_computed() -> None:
    runner, clock = HeldEngine(), FakeClock()
    async with batching([runner], clock, cost=CostModel(0.1, 0.1)) as batcher:
        await ask(batcher, 1)
        late, in_time, patient = await ask(batcher, 2, deadline=1.0), await ask(batcher, 3, deadline=1.2), await ask(batcher, 4)
        await clock.advance(0.9)
        assert not late.done()
        await runner.release()
        with pytest.raises(DeadlineError, match="cannot be met any more"):
            await late
        assert runner.batches == [[1], [3, 4]]
        await runner.release()
        assert (values_of(await in_time), values_of(await patient)) == ([3], [4])


async def test_draining_ends_though_the_last_one_was_given_up() -> None:
    runner, clock = HeldEngine(), FakeClock()
    async with batching([runner], clock, cost=CostModel(0.1, 0.1)) as batcher:
        await ask(batcher, 1)
        late = await ask(batcher, 2, deadline=1.0)
        draining = asyncio.create_task(batcher.drain())
        await clock.advance(0.9)
        await runner.release()
        with pytest.raises(DeadlineError, match="cannot be met any more"):
            await late
        await asyncio.wait_for(draining, 5)


async def test_a_deadline_in_the_past_is_refused_at_the_door() -> None:
    clock = FakeClock()
    async with batching([HeldEngine()], clock) as batcher:
        await clock.advance(5)
        with pytest.raises(DeadlineError, match=r"1\.000 s before"):
            await batcher.submit(image(1), 4.0)


async def test_a_full_queue_refuses_and_has_room_again_after_a_cancellation() -> None:
    runner = HeldEngine()
    async with batching([runner], max_queue_rows=4) as batcher:
        await ask(batcher, 0)
        waiting = [await ask(batcher, 1, 2), await ask(batcher, 3, 4)]
        with pytest.raises(QueueFullError, match="holds 4 rows of at most 4"):
            await batcher.submit(image(5))
        waiting[0].cancel()
        await settle()
        admitted = await ask(batcher, 5)
        await runner.release()
        await runner.release()
        assert values_of(await admitted) == [5]


@pytest.mark.parametrize("rows", [0, 9])
async def test_a_request_of_no_or_too_many_rows_is_invalid(rows: int) -> None:
    async with batching([HeldEngine()]) as batcher:
        with pytest.raises(InvalidRequestError, match=f"rows: {rows} in one request; expected 1 to 8"):
            await batcher.submit(np.zeros((rows, 2, 2, 3), np.uint8))


async def test_rows_out_must_equal_rows_in_or_the_whole_batch_fails() -> None:
    runner = HeldEngine()
    runner.extra_rows = 1
    async with batching([runner]) as batcher:
        task = await ask(batcher, 1, 2)
        await runner.release()
        with pytest.raises(EngineError, match="answered 3 rows for 2"):
            await task


async def test_a_failing_engine_fails_its_batch_and_the_queue_goes_on() -> None:
    runner = HeldEngine()
    async with batching([runner]) as batcher:
        failing, next_one = await ask(batcher, 1), await ask(batcher, 2)
        await runner.release(EngineError("the engine failed: boom"))
        with pytest.raises(EngineError, match="the engine failed: boom"):
            await failing
        await runner.release()
        assert values_of(await next_one) == [2]


async def test_draining_answers_what_is_queued_and_refuses_what_comes() -> None:
    runner = HeldEngine()
    async with batching([runner]) as batcher:
        tasks = [await ask(batcher, 1), await ask(batcher, 2)]
        draining = asyncio.create_task(batcher.drain())
        await settle()
        with pytest.raises(ModelUnavailableError, match="shutting down"):
            await batcher.submit(image(3))
        await runner.release()
        assert not draining.done()
        await runner.release()
        await draining
        assert [values_of(await task) for task in tasks] == [[1], [2]]


async def test_closing_answers_everyone() -> None:
    runner = HeldEngine()
    async with batching([runner]) as batcher:
        tasks = [await ask(batcher, 1), await ask(batcher, 2)]
        await batcher.close()
        for task in tasks:
            with pytest.raises(ModelUnavailableError, match="shutting down"):
                await task


async def test_many_cancelled_requests_do_not_stay_in_the_queue() -> None:
    async with batching([HeldEngine()]) as batcher:
        await ask(batcher, 1)
        for _ in range(100):
            task = await ask(batcher, 2)
            task.cancel()
            await settle()
        assert batcher.queued_rows == 0
        assert len(batcher._queue) <= 1


async def test_the_urgent_go_first_and_those_of_one_priority_in_order() -> None:
    engine = HeldEngine()
    async with batching([engine], max_batch=2) as batcher:
        await ask(batcher, 0)
        for value, priority in ((1, LOW), (2, NORMAL), (3, HIGH), (4, NORMAL), (5, HIGH)):
            await ask(batcher, value, priority=priority)
        for _ in range(4):
            await engine.release()
        assert engine.batches == [[0], [3, 5], [2, 4], [1]]


async def test_a_priority_that_is_none_is_invalid() -> None:
    async with batching([HeldEngine()]) as batcher:
        with pytest.raises(InvalidRequestError, match="priority: 4; expected one of 1, 2, 3"):
            await batcher.submit(image(1), None, 4)


async def test_a_large_request_never_starves_small_ones_nor_they_it() -> None:
    engine = HeldEngine()
    async with batching([engine], max_batch=2, max_request=16) as batcher:
        await ask(batcher, 0)
        large = await ask(batcher, *range(100, 108))
        small = [await ask(batcher, value) for value in range(1, 7)]
        for _ in range(8):
            await engine.release()
        assert engine.batches == [[0], [1, 2], [100, 101], [3, 4], [102, 103], [5, 6], [104, 105], [106, 107]]
        assert values_of(await large) == list(range(100, 108))
        assert [values_of(await task) for task in small] == [[value] for value in range(1, 7)]


async def test_cancelling_a_request_that_is_half_computed_takes_the_rest_from_the_queue() -> None:
    engine = HeldEngine()
    async with batching([engine], max_batch=2, max_request=8) as batcher:
        large = await ask(batcher, 1, 2, 3, 4, 5)
        assert batcher.queued_rows == 3
        large.cancel()
        await settle()
        assert batcher.queued_rows == 0
        after = await ask(batcher, 9)
        await engine.release()
        await engine.release()
        assert engine.batches == [[1, 2], [9]]
        assert values_of(await after) == [9]


async def test_a_running_request_is_answered_at_its_deadline_too() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock) as batcher:
        task = await ask(batcher, 1, deadline=1.0)
        await clock.advance(1.0)
        with pytest.raises(DeadlineError, match="while the request was computed"):
            await task
        await engine.release()
        patient = await ask(batcher, 2)
        await engine.release()
        assert values_of(await patient) == [2]


async def test_a_batch_that_lay_ready_at_an_engine_that_died_runs_on_another() -> None:
    dead, alive = HeldEngine(), HeldEngine()
    async with batching([dead, alive], max_batch=2) as batcher:
        first, second = await ask(batcher, 1), await ask(batcher, 2)
        queued = await ask(batcher, 3)
        dead.ready = False
        await dead.release(EngineDiedError("gone"), begun=False)
        await alive.release()
        assert alive.batches == [[2], [1]]
        await alive.release()
        await alive.release()
        assert [values_of(await task) for task in (first, second, queued)] == [[1], [2], [3]]


async def test_the_batch_that_ran_when_an_engine_died_fails_alone_and_the_queue_waits_for_its_return() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        failing, waiting = await ask(batcher, 1), await ask(batcher, 2)
        engine.ready = False
        await engine.release(EngineDiedError("the engine's process ended"))
        with pytest.raises(EngineDiedError):
            await failing
        assert engine.batches == [[1]]
        engine.ready = True
        engine.changed()
        await settle()
        await engine.release()
        assert values_of(await waiting) == [2]


async def test_below_the_grain_one_engine_gathers_and_above_it_the_other_helps() -> None:
    left, right = HeldEngine(), HeldEngine()
    async with batching([left, right], grain=3) as batcher:
        for value in range(3):
            await ask(batcher, value)
        assert (left.batches, right.batches) == ([[0]], [])
        await ask(batcher, 3)
        assert right.batches == [[1, 2, 3]]


async def test_a_batch_is_alone_only_where_no_others_have_been_here_of_late() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        for _ in range(2):
            await ask(batcher, 1)
            await engine.release()
        assert engine.alone == [True, True]
        for value in range(3):
            await ask(batcher, value)
        await engine.release()
        await engine.release()
        assert engine.alone[2:] == [True, False]  # the second found others waiting when it came
        await ask(batcher, 1)
        await engine.release()
        assert engine.alone[4:] == [False]  # nobody else is here, but they were a moment ago
        for _ in range(200):
            await ask(batcher, 1)
            await engine.release()
        assert engine.alone[-1]


async def test_a_given_delay_holds_a_batch_back_and_a_full_one_leaves() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, max_batch=2, max_delay=0.5) as batcher:
        await ask(batcher, 1)
        await clock.advance(0.25)
        assert engine.batches == []
        await clock.advance(0.25)
        assert engine.batches == [[1]]
        await engine.release()
        await ask(batcher, 2)
        await ask(batcher, 3)
        assert engine.batches[1:] == [[2, 3]]


async def test_an_idle_engine_waits_only_where_the_next_row_is_expected_within_what_it_saves() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, cost=CostModel(0.1, 0.001)) as batcher:
        for value in range(60):  # one every 10 ms, and a batch costs 100 ms whatever its size
            task = await ask(batcher, value)
            if engine.held:
                await engine.release(seconds=0.1)
                await task
            await clock.advance(0.01)
        assert max(len(batch) for batch in engine.batches) > 1
    async with batching([engine := HeldEngine()], clock, cost=CostModel(0.001, 0.1)) as batcher:
        for value in range(60):  # nothing to save
            task = await ask(batcher, value)
            await engine.release(seconds=0.1)
            await task
            await clock.advance(0.01)
        assert engine.batches == [[value] for value in range(60)]


async def test_what_cannot_make_its_deadline_is_refused_at_the_door() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, max_batch=1, max_request=8, cost=CostModel(0.0, 0.1)) as batcher:
        with pytest.raises(UnreachableDeadlineError, match=r"the deadline leaves 50\.0 ms; 1 rows take about 100\.0 ms"):
            await batcher.submit(image(1), 0.05)
        running = await ask(batcher, 1, deadline=0.2)
        await ask(batcher, 2)
        with pytest.raises(LateError, match=r"with 1 rows queued the answer takes 250\.0 ms") as refusal:
            await batcher.submit(image(3), 0.2)
        assert refusal.value.retry_after == pytest.approx(0.05)
        admitted = await ask(batcher, 4, deadline=0.26)
        await engine.release(seconds=0.1)
        await engine.release(seconds=0.1)
        await engine.release(seconds=0.1)
        assert (values_of(await running), values_of(await admitted)) == ([1], [4])


async def test_urgent_requests_are_judged_by_what_goes_before_them() -> None:
    async with batching([HeldEngine()], max_batch=1, cost=CostModel(0.0, 0.1)) as batcher:
        await ask(batcher, 1)
        await ask(batcher, 2)
        with pytest.raises(LateError):
            await batcher.submit(image(3), 0.16)
        assert not (await ask(batcher, 3, deadline=0.16, priority=HIGH)).done()
