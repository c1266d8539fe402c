"""Batches of a group: whose turn it is, which network computes, and what the door refuses; clock and engines injected."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from batching import FakeClock, HeldEngine, image, settle, values_of
from prometheus_client import CollectorRegistry
from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.deadline_queue import PATIENCE_SECONDS
from resnet_server.batching.row_queue import HIGH, LOW, NORMAL
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.errors import EngineDiedError, InvalidRequestError, LateError, UnreachableDeadlineError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.assembly import assemble
from resnet_server.models.depth_chooser import choice_of
from resnet_server.models.group import GroupInfo, manifest_of
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.plan import Plan, Trial
from resnet_server.settings import Settings

COSTS = {20: (0.91, 0.001), 32: (0.92, 0.002), 56: (0.93, 0.004)}
"""Accuracy, and seconds for a row, by depth."""
SHALLOW, MIDDLE, DEEP = range(3)


def member(depth: int) -> ModelInfo:
    accuracy, per_row = COSTS[depth]
    manifest = Manifest(name=f"resnet{depth}", version="1")
    manifest.network.depth = depth
    artifact = Artifact(precision="fp32")
    artifact.certificate.artifact_accuracy = 100 * accuracy
    artifact.certificate.id = f"id{depth}"
    manifest.artifacts.append(artifact)
    return ModelInfo(manifest, ("one",), "fp32", CPU_PROVIDER, True, None, plan_of(per_row))


def plan_of(per_row: float, batch: int = 4) -> Plan:
    return Plan("fp32", 1, 1, 0, batch, 0.0, per_row, "", (Trial("fp32", 1, 1, batch, per_row * batch),))


def group(target: float | None = None) -> GroupInfo:
    members = tuple(map(member, COSTS))
    manifest = manifest_of("auto", "fp32", members[-1])
    accuracies = tuple(accuracy for accuracy, _ in COSTS.values())
    known = {"members": members, "accuracies": accuracies, "target": target}
    return GroupInfo(manifest, ("one",), "fp32", CPU_PROVIDER, True, None, plan_of(0.002), **known)  # type: ignore[arg-type]  # by name


@asynccontextmanager
async def grouped(engines: Sequence[HeldEngine], clock: FakeClock, target: float | None = None) -> AsyncIterator[Batcher]:
    metrics = Metrics(CollectorRegistry())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("resnet_server.models.assembly.LoopClock", lambda: clock)
        model = assemble(group(target), engines, Settings(Path(), max_batch=16, max_delay=0.0), metrics)
    await settle()
    try:
        yield model.batcher
    finally:
        await model.batcher.close()


async def ask(
    batcher: Batcher, *values: int, deadline: float | None = None, demand: Demand = ANY, priority: int = NORMAL
) -> "asyncio.Task[Answer]":
    task = asyncio.create_task(batcher.submit(image(*values), deadline, priority, demand))
    await settle()
    return task


def said(answer: Answer) -> tuple[str, str]:
    choice = choice_of(answer)
    assert choice is not None
    return choice.info.manifest.name, choice.reason


async def test_the_network_is_decided_when_the_batch_leaves_and_the_answer_says_which() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        first = await ask(batcher, 1, deadline=1.0)
        waits = await ask(batcher, 2, deadline=0.006)
        await clock.advance(0.002)  # now the deepest would be late
        await engine.release(seconds=0.002)
        await engine.release(seconds=0.001)
        assert engine.networks == [DEEP, MIDDLE]
        assert said(await first) == ("resnet56", "deepest")
        assert said(await waits) == ("resnet32", "slack")


async def test_what_runs_before_on_the_engine_takes_from_the_slack() -> None:
    clock, engine = FakeClock(), HeldEngine(depth=2)
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, *range(4), deadline=1.0) for _ in range(1)]
        tasks.append(await ask(batcher, *range(4), deadline=0.030))  # laid ready behind 16 ms of work
        assert engine.networks == [DEEP, MIDDLE]
        for _ in tasks:
            await engine.release(seconds=0.001)
        await asyncio.gather(*tasks)


async def test_the_earliest_deadline_goes_first_within_a_priority() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, 0)]
        for value, deadline, priority in (
            (1, 0.9, NORMAL),
            (2, 0.5, NORMAL),
            (3, None, NORMAL),
            (4, 0.7, NORMAL),
            (5, 0.1, LOW),
            (6, 0.95, HIGH),
        ):
            tasks.append(await ask(batcher, value, value, value, deadline=deadline, priority=priority))
        for _ in range(7):
            await engine.release(seconds=0.001)
        order = list(dict.fromkeys(value for batch in engine.batches for value in batch))
        assert order == [0, 6, 2, 4, 1, 3, 5]
        await asyncio.gather(*tasks)


async def test_whoever_has_no_deadline_is_passed_for_a_second_and_no_longer() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, 0), await ask(batcher, 1, 1, 1, 1)]
        await clock.advance(PATIENCE_SECONDS - 0.1)
        tasks += [await ask(batcher, 2, 2, 2, 2, deadline=clock.now + 0.05), await ask(batcher, 3, 3, 3, 3, deadline=clock.now + 0.2)]
        for _ in range(4):
            await engine.release(seconds=0.001)
        assert [batch[0] for batch in engine.batches] == [0, 2, 1, 3]
        await asyncio.gather(*tasks)


async def test_requests_with_other_bounds_are_never_in_one_batch() -> None:
    clock, engine = FakeClock(), HeldEngine()
    floor, limit = Demand(min_accuracy=0.925), Demand(max_depth=20)
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, 0)]
        for value, demand in ((1, floor), (2, limit), (3, ANY), (4, floor), (5, Demand(max_depth=31))):
            tasks.append(await ask(batcher, value, deadline=1.0 + value / 10, demand=demand))
        for _ in range(4):
            await engine.release(seconds=0.001)
        assert engine.batches == [[0], [1, 4], [2, 5], [3]]
        assert engine.networks[1:3] == [DEEP, SHALLOW]
        assert said(await tasks[2]) == ("resnet20", "limit")
        await asyncio.gather(*tasks)


async def test_all_of_a_large_request_is_answered_by_the_network_that_began_it() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        large = await ask(batcher, *range(10), deadline=0.08)
        assert engine.networks == [DEEP]
        await clock.advance(0.030)  # the deepest would not be chosen any more
        await engine.release(seconds=0.016)
        others = [await ask(batcher, 77, deadline=0.036)]
        await clock.advance(0.002)
        await engine.release(seconds=0.016)
        await engine.release(seconds=0.016)
        await engine.release(seconds=0.016)
        by_value = {batch[0]: network for batch, network in zip(engine.batches, engine.networks, strict=True)}
        assert by_value[0] == by_value[4] == by_value[8] == DEEP
        assert by_value[77] != DEEP
        assert values_of(await large) == list(range(10))
        assert said(await large)[0] == "resnet56"
        await asyncio.gather(*others)


async def test_a_batch_that_another_engine_takes_over_stays_with_its_network() -> None:
    clock, engines = FakeClock(), [HeldEngine(), HeldEngine()]
    async with grouped(engines, clock) as batcher:
        tasks = [await ask(batcher, 1, deadline=0.1), await ask(batcher, 2, deadline=0.1)]
        assert engines[0].networks == engines[1].networks == [DEEP]
        await clock.advance(0.0975)  # the deepest would not be chosen any more
        await engines[1].release(error=EngineDiedError("gone"), begun=False)
        await engines[0].release(seconds=0.004)
        assert engines[0].networks + engines[1].networks == [DEEP, DEEP, DEEP]
        for engine in engines:
            while engine.held:
                await engine.release(seconds=0.004)
        for task in tasks:
            assert said(await task)[0] == "resnet56"


async def test_the_door_judges_by_the_cheapest_network_that_is_accepted() -> None:
    clock = FakeClock()
    async with grouped([HeldEngine()], clock) as batcher:
        batcher.judge(4, 0.005)
        with pytest.raises(UnreachableDeadlineError, match=r"leaves 3.0 ms; 4 rows take about 4.0 ms"):
            batcher.judge(4, 0.003)
        with pytest.raises(UnreachableDeadlineError, match=r"leaves 5.0 ms; 4 rows take about 16.0 ms"):
            batcher.judge(4, 0.005, demand=Demand(min_accuracy=0.925))
        with pytest.raises(InvalidRequestError, match=r"min_accuracy: 0.95; expected at most 0.93, that of resnet56 fp32"):
            batcher.judge(4, None, demand=Demand(min_accuracy=0.95))
        with pytest.raises(InvalidRequestError, match=r"max_depth: 19; expected at least 20, that of resnet20 fp32"):
            batcher.judge(4, None, demand=Demand(max_depth=19))


async def test_the_queue_counts_at_the_door_as_the_cheapest_would_answer_it() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, *range(4)) for _ in range(4)]
        batcher.judge(4, 0.030)
        with pytest.raises(LateError):
            batcher.judge(4, 0.010)
        for _ in tasks:
            await engine.release(seconds=0.004)
        await asyncio.gather(*tasks)


async def test_the_target_decides_where_there_is_no_deadline() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock, target=0.010) as batcher:
        tasks = [await ask(batcher, *range(4))]
        assert engine.networks == [MIDDLE]
        tasks.append(await ask(batcher, *range(4)))
        await clock.advance(0.011)  # too late for its target, which is no deadline: it is answered all the same
        await engine.release(seconds=0.008)
        await engine.release(seconds=0.004)
        assert engine.networks == [MIDDLE, SHALLOW]
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("within", [None, 2.0])
async def test_whoever_is_alone_and_has_all_the_time_gets_the_best_however_often_they_ask(within: float | None) -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        for _ in range(400):  # a thousand a second: four times what the deepest could answer
            task = await ask(batcher, 1, deadline=None if within is None else clock.now + within)
            await clock.advance(0.001)
            await engine.release(seconds=0.004)
            assert said(await task) == ("resnet56", "deepest")


async def test_more_than_the_deepest_can_answer_is_answered_by_shallower_ones() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, 1, deadline=clock.now + 0.1)]
        for _ in range(200):
            seconds = len(engine.batches[-1]) * 0.001 * 2 ** engine.networks[-1]
            missing = round(700 * (clock.now + seconds)) + 1 - len(tasks)  # of seven hundred a second
            tasks += [await ask(batcher, 1, deadline=clock.now + 0.1) for _ in range(missing)]
            await clock.advance(seconds)
            await engine.release(seconds=seconds)
        assert len(tasks) - batcher.queued_rows > 700
        answers = [said(await task) for task in tasks if task.done()]  # of which none was refused or late
        assert answers[0] == ("resnet56", "deepest")
        assert {("resnet32", "load"), ("resnet20", "load")} <= set(answers[-100:])
        for task in tasks:
            task.cancel()


async def test_those_that_are_refused_count_as_come() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        tasks = [await ask(batcher, *range(4)), await ask(batcher, 1)]
        for _ in range(600):
            with pytest.raises(LateError):
                await batcher.submit(image(1), clock.now + 0.003)
            await clock.advance(0.001)
        await engine.release(seconds=0.016)
        await engine.release(seconds=0.004)
        tasks.append(await ask(batcher, 1, deadline=clock.now + 0.03))
        await engine.release(seconds=0.004)
        assert said(await tasks[-1]) == ("resnet32", "load")
        await asyncio.gather(*tasks)


async def test_those_that_leave_or_expire_give_back_their_room() -> None:
    clock, engine = FakeClock(), HeldEngine()
    async with grouped([engine], clock) as batcher:
        first = await ask(batcher, 0)
        waiting = [await ask(batcher, 1, 1, deadline=0.5), await ask(batcher, 1, 1, deadline=1.5, demand=Demand(max_depth=20))]
        assert batcher.queued_rows == 4
        waiting[1].cancel()
        await settle()
        assert batcher.queued_rows == 2
        await clock.advance(0.6)
        assert batcher.queued_rows == 0
        assert await asyncio.gather(*waiting, return_exceptions=True)
        await engine.release(seconds=0.001)
        assert values_of(await first) == [0]
        assert engine.batches == [[0]]
        last = await ask(batcher, 2, deadline=clock.now + 0.1)
        assert (engine.networks[-1], batcher.queued_rows) == (DEEP, 0)  # who has gone is in no one's way
        await engine.release(seconds=0.004)
        await last
