"""An engine in which a batch hangs: suspected, ended and replaced, while the others go on."""

import pytest
from batching import FakeClock, HeldEngine, ask, batching, settle, values_of
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.watchdog import LEAST_SECONDS, TICK, TIMES
from resnet_server.errors import EngineDiedError, ModelUnavailableError

COST = CostModel(0.01, 0.01)
LIMIT = LEAST_SECONDS + TIMES * COST.predict(8)


async def advance(clock: FakeClock, seconds: float) -> None:
    """In small steps, as time goes while nothing stands still."""
    for _ in range(round(seconds / TICK)):
        await clock.advance(TICK)


async def test_a_batch_that_hangs_costs_the_engine_its_life_and_only_itself() -> None:
    stuck, other, clock = HeldEngine(depth=2), HeldEngine(), FakeClock()
    seen: list[int] = []
    async with batching([stuck, other], clock, cost=COST) as batcher:
        batcher.watch_engines(seen.append)
        hangs, fine = await ask(batcher, 1), await ask(batcher, 2)
        behind = await ask(batcher, 3, 4)
        assert stuck.batches == [[1], [3, 4]]
        await other.release(seconds=COST.predict(1))
        await advance(clock, LIMIT - TICK)
        assert not hangs.done() and stuck.kills == 0
        await advance(clock, 3 * TICK)
        assert stuck.kills == 1
        with pytest.raises(EngineDiedError, match="many times longer than predicted"):
            await hangs
        assert other.batches == [[2], [3, 4]]
        await other.release()
        assert (values_of(await fine), values_of(await behind)) == ([2], [3, 4])
        assert seen == [2, 1]
        stuck.ready = False  # the process ends, and a new one starts
        stuck.changed()
        stuck.held.clear()
        stuck.ready = True
        stuck.changed()
        again = await ask(batcher, 5)
        assert stuck.batches[2:] + other.batches[2:] == [[5]]
        await (stuck if stuck.held else other).release()
        assert values_of(await again) == [5]
        assert seen[-1] == 2


async def test_an_engine_that_cannot_be_ended_gets_nothing_until_its_batch_is_over() -> None:
    stuck, clock = HeldEngine(), FakeClock()
    async with batching([stuck], clock, cost=COST) as batcher:
        hangs = await ask(batcher, 1)
        await advance(clock, LIMIT + 2 * TICK)
        with pytest.raises(EngineDiedError):
            await hangs
        later = await ask(batcher, 2)
        assert stuck.batches == [[1]]
        await stuck.release()
        assert stuck.batches == [[1], [2]]
        await stuck.release()
        assert values_of(await later) == [2]


async def test_a_machine_that_stood_still_is_no_reason_to_end_an_engine() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, cost=COST) as batcher:
        task = await ask(batcher, 1)
        await clock.advance(3600.0)
        await advance(clock, TICK)
        assert engine.kills == 0
        await engine.release()
        assert values_of(await task) == [1]


async def test_a_caller_at_a_time_does_not_wait_for_a_slow_engine_while_another_is_free() -> None:
    slow, idle, clock = HeldEngine(), HeldEngine(), FakeClock()
    async with batching([slow, idle], clock, cost=COST, grain=4) as batcher:
        await ask(batcher, 1)
        task = await ask(batcher, 2)
        assert (slow.batches, idle.batches) == ([[1]], [])  # below the grain it waits for the one that runs
        await advance(clock, 0.5)
        assert idle.batches == [[2]]
        await idle.release()
        assert values_of(await task) == [2]
        await ask(batcher, 3)
        assert idle.batches[1:] == [[3]]


async def test_a_batch_that_two_engines_gave_back_fails_instead_of_going_round() -> None:
    engines = [HeldEngine(), HeldEngine(), HeldEngine()]
    async with batching(engines) as batcher:
        task = await ask(batcher, 1)
        for _ in range(2):
            holder = next(engine for engine in engines if engine.held)
            await holder.release(EngineDiedError("gone"), begun=False)
        with pytest.raises(EngineDiedError, match="two engines in a row"):
            await task
        assert sum(len(engine.batches) for engine in engines) == 2


async def test_who_waits_for_an_engine_can_be_refused_and_others_wait_for_its_return() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        engine.ready = False
        engine.changed()
        waits = await ask(batcher, 1)
        batcher.refuse_waiting(ModelUnavailableError("no engine"))
        with pytest.raises(ModelUnavailableError, match="no engine"):
            await waits
        back = await ask(batcher, 2)
        engine.ready = True
        engine.changed()
        await settle()
        await engine.release()
        assert values_of(await back) == [2]
