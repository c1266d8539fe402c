"""The batcher's rules: when a batch leaves, who is in it, and who gets which answer."""

import asyncio

import pytest
from batching import FakeClock, HeldEngine, ask, batching, settle, values_of
from resnet_server.batching.batch import BatchReport
from resnet_server.batching.cost_model import CostModel
from resnet_server.errors import (
    EngineDiedError,
    EngineError,
)


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


async def test_many_cancelled_requests_do_not_stay_in_the_queue() -> None:
    async with batching([HeldEngine()]) as batcher:
        await ask(batcher, 1)
        for _ in range(100):
            task = await ask(batcher, 2)
            task.cancel()
            await settle()
        assert batcher.queued_rows == 0
        assert len(batcher._queue) <= 1


async def test_a_batch_that_lay_ready_at_an_engine_that_died_runs_on_another() -> None:
    dead, alive = HeldEngine(), HeldEngine()
    async with batching([dead, alive], max_batch=2) as batcher:
        first, second = await ask(batcher, 1), await ask(batcher, 2)
        queued = await ask(batcher, 3)
        dead.ready = False
        dead.changed()
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
        engine.changed()
        await engine.release(EngineDiedError("the engine's process ended"))
        with pytest.raises(EngineDiedError):
            await failing
        assert engine.batches == [[1]]
        engine.ready = True
        engine.changed()
        await settle()
        await engine.release()
        assert values_of(await waiting) == [2]


async def test_engines_that_come_and_go_are_told() -> None:
    engines, seen = [HeldEngine(), HeldEngine()], list[int]()
    async with batching(engines) as batcher:
        batcher.watch_engines(seen.append)
        for engine in engines:
            engine.ready = False
            engine.changed()
        assert batcher.engines_up == 0
        engines[0].ready = True
        engines[0].changed()
        assert seen == [2, 1, 0, 1]


async def test_an_engine_that_goes_while_a_batch_is_shared_out_divides_nothing_by_zero() -> None:
    class Leaving(HeldEngine):
        looks = 0

        @property
        def ready(self) -> bool:  # type: ignore[override]  # the event loop changes it between two looks of another thread
            self.looks += 1
            return self.looks == 1

    engine = Leaving()
    async with batching([engine]) as batcher:
        await ask(batcher, 1)
        assert engine.batches == [[1]]


async def test_below_the_grain_one_engine_gathers_and_above_it_the_other_helps() -> None:
    left, right = HeldEngine(), HeldEngine()
    async with batching([left, right], grain=3) as batcher:
        for value in range(3):
            await ask(batcher, value)
        assert (left.batches, right.batches) == ([[0]], [])
        await ask(batcher, 3)
        assert right.batches == [[1, 2, 3]]


@pytest.mark.parametrize(("running", "enough"), [(1, 2), (4, 4), (6, 6)])
async def test_of_few_rows_an_even_share_is_worth_the_other_engine(running: int, enough: int) -> None:
    """Never less than the least grain, and never more than a grain."""
    left, right = HeldEngine(), HeldEngine()
    async with batching([left, right], grain=6, least_grain=2, max_batch=20) as batcher:
        tasks = [await ask(batcher, *[0] * running)]
        tasks += [await ask(batcher, value) for value in range(enough - 1)]
        assert right.batches == []
        tasks.append(await ask(batcher, enough - 1))
        assert right.batches == [list(range(enough))]
        await left.release()
        await right.release()
        await asyncio.gather(*tasks)


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
