"""The batcher's rules, with an injected clock and runners that finish when the test says so."""

import asyncio
import heapq
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from resnet_server.batching import Answer, Batcher, BatchReport, Images, Logits
from resnet_server.errors import DeadlineError, EngineError, InvalidRequestError, ModelUnavailableError, QueueFullError


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


class HeldRunner:
    """Computes row -> its first byte, once `release` is called; keeps what it was given."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate: asyncio.Future[Exception | None] | None = None
        self.extra_rows = 0

    async def run(self, parts: Sequence[Images], rows: int) -> Logits:
        values = np.concatenate([part[:, 0, 0, :1] for part in parts]).astype(np.float32)
        assert len(values) == rows
        self.batches.append([int(value) for value in values[:, 0]])
        self.gate = asyncio.get_running_loop().create_future()
        error = await self.gate
        if error is not None:
            raise error
        return np.concatenate([values, np.zeros((self.extra_rows, 1), np.float32)])

    async def release(self, error: Exception | None = None) -> None:
        assert self.gate is not None
        self.gate.set_result(error)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def image(*values: int) -> Images:
    return np.stack([np.full((2, 2, 3), value, np.uint8) for value in values])


@asynccontextmanager
async def batching(
    runners: Sequence[HeldRunner],
    clock: FakeClock | None = None,
    *,
    max_batch: int = 8,
    max_queue_rows: int = 64,
    reports: list[BatchReport] | None = None,
) -> AsyncIterator[Batcher]:
    seen: list[BatchReport] = [] if reports is None else reports
    batcher = Batcher(runners, max_batch=max_batch, max_queue_rows=max_queue_rows, clock=clock or FakeClock(), on_batch=seen.append)
    await settle()
    try:
        yield batcher
    finally:
        await batcher.close()


async def ask(batcher: Batcher, *values: int, deadline: float | None = None) -> "asyncio.Task[Answer]":
    task = asyncio.create_task(batcher.submit(image(*values), deadline))
    await settle()
    return task


def values_of(answer: Answer) -> list[int]:
    return [int(value) for value in answer.logits[:, 0]]


async def test_an_idle_engine_starts_at_once_and_requests_gather_while_it_is_busy() -> None:
    runner = HeldRunner()
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
    runner, clock = HeldRunner(), FakeClock()
    async with batching([runner], clock) as batcher:
        await ask(batcher, 1)
        second = await ask(batcher, 2, 3)
        await clock.advance(0.25)
        await runner.release()
        await clock.advance(0.5)
        await runner.release()
        answer = await second
        assert (answer.queue_seconds, answer.compute_seconds, answer.batch_rows) == (0.25, 0.5, 2)


async def test_a_batch_holds_whole_requests_up_to_the_maximum() -> None:
    runner = HeldRunner()
    async with batching([runner], max_batch=4) as batcher:
        tasks = [await ask(batcher, 0)]
        tasks += [await ask(batcher, *values) for values in ((1, 2, 3), (4, 5), (6,))]
        await runner.release()
        assert runner.batches[1] == [1, 2, 3]
        await runner.release()
        assert runner.batches[2] == [4, 5, 6]
        await runner.release()
        assert [values_of(await task) for task in tasks] == [[0], [1, 2, 3], [4, 5], [6]]


async def test_two_engines_share_the_queue_evenly() -> None:
    left, right = HeldRunner(), HeldRunner()
    async with batching([left, right]) as batcher:
        for value in range(8):
            await ask(batcher, value)
        assert (left.batches, right.batches) == ([[0]], [[1]])
        await left.release()
        await right.release()
        assert (left.batches[1], right.batches[1]) == ([2, 3, 4], [5, 6])


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("when", ["queued", "running"])
async def test_cancelling_any_position_leaves_its_neighbours_right(position: int, when: str) -> None:
    runner = HeldRunner()
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
    runner, clock = HeldRunner(), FakeClock()
    async with batching([runner], clock) as batcher:
        running = await ask(batcher, 1, deadline=1.0)
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


async def test_a_deadline_in_the_past_is_refused_at_the_door() -> None:
    clock = FakeClock()
    async with batching([HeldRunner()], clock) as batcher:
        await clock.advance(5)
        with pytest.raises(DeadlineError, match=r"1\.000 s before"):
            await batcher.submit(image(1), 4.0)


async def test_a_full_queue_refuses_and_has_room_again_after_a_cancellation() -> None:
    runner = HeldRunner()
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
    async with batching([HeldRunner()]) as batcher:
        with pytest.raises(InvalidRequestError, match=f"rows: {rows} in one request; expected 1 to 8"):
            await batcher.submit(np.zeros((rows, 2, 2, 3), np.uint8))


async def test_rows_out_must_equal_rows_in_or_the_whole_batch_fails() -> None:
    runner = HeldRunner()
    runner.extra_rows = 1
    async with batching([runner]) as batcher:
        task = await ask(batcher, 1, 2)
        await runner.release()
        with pytest.raises(EngineError, match="answered 3 rows for 2"):
            await task


@pytest.mark.parametrize("error", [EngineError("the engine failed: boom"), RuntimeError("boom")])
async def test_a_failing_engine_fails_its_batch_and_the_queue_goes_on(error: Exception) -> None:
    runner = HeldRunner()
    async with batching([runner]) as batcher:
        failing, next_one = await ask(batcher, 1), await ask(batcher, 2)
        await runner.release(error)
        with pytest.raises(EngineError, match="the engine failed: boom"):
            await failing
        await runner.release()
        assert values_of(await next_one) == [2]


async def test_draining_answers_what_is_queued_and_refuses_what_comes() -> None:
    runner = HeldRunner()
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
    runner = HeldRunner()
    async with batching([runner]) as batcher:
        tasks = [await ask(batcher, 1), await ask(batcher, 2)]
        await batcher.close()
        for task in tasks:
            with pytest.raises(ModelUnavailableError, match="shutting down"):
                await task


async def test_many_cancelled_requests_do_not_stay_in_the_queue() -> None:
    async with batching([HeldRunner()]) as batcher:
        await ask(batcher, 1)
        for _ in range(100):
            task = await ask(batcher, 2)
            task.cancel()
            await settle()
        assert batcher.queued_rows == 0
        assert len(batcher._queue) <= 1
