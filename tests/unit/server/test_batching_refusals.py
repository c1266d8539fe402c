"""Deadlines, priorities, a full queue and the end: whom the batcher refuses, gives up or serves first."""

import asyncio

import numpy as np
import pytest
from batching import FakeClock, HeldEngine, ask, batching, image, settle, values_of
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.row_queue import HIGH, LOW, NORMAL
from resnet_server.errors import (
    DeadlineError,
    InvalidRequestError,
    LateError,
    ModelUnavailableError,
    QueueFullError,
    UnreachableDeadlineError,
)


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
        await clock.advance(0.7)
        assert not late.done()
        await clock.advance(0.25)  # the next look at what runs
        with pytest.raises(DeadlineError, match="cannot be met any more"):
            await late
        await runner.release()
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


async def test_what_cannot_make_its_deadline_is_refused_at_the_door() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, max_batch=1, max_request=8, cost=CostModel(0.0, 0.1)) as batcher:
        with pytest.raises(UnreachableDeadlineError, match=r"the deadline leaves 50\.0 ms; 1 rows take about 100\.0 ms"):
            await batcher.submit(image(1), 0.05)
        running = await ask(batcher, 1, deadline=0.2)
        await ask(batcher, 2)
        with pytest.raises(LateError, match=r"with 1 rows queued the answer takes 250\.0 ms") as refusal:
            await batcher.submit(image(3), 0.2)
        assert refusal.value.retry_after == pytest.approx(0.15), "the queue's time; the request is only 50 ms too late"
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
