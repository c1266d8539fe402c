"""A doubtful plan, or one that tells other times than batches take, is measured again in calm and replaced without a pause."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batching import HeldEngine, image, settle, values_of
from prometheus_client import CollectorRegistry
from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.errors import EngineError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models import served_model
from resnet_server.models.assembly import assemble
from resnet_server.models.plan_keeper import Kept, PlanKeeper
from resnet_server.models.served_model import ModelInfo, ServedModel
from resnet_server.planning.disturbance import ProcessorTime, processor_time
from resnet_server.planning.plan import Plan, Trial, choose
from resnet_server.planning.plan_watch import ENOUGH, PlanWatch
from resnet_server.settings import Settings


def plan_of(engines: int, threads: int, share: float = 1.0) -> Plan:
    return choose([Trial("fp32", engines, threads, rows, 1e-3 * rows, share=share) for rows in (1, 8)], None, 2)


class Server:
    """A served model whose plans are measured by a script: what each measurement finds."""

    def __init__(self, plan: Plan, *found: Plan | EngineError) -> None:
        self.metrics = Metrics(CollectorRegistry())
        self.engines: list[HeldEngine] = []
        self.model = self.assemble(plan)
        self.found = list(found)
        self.swaps: list[Plan] = []
        self.given_up = asyncio.Event()
        self.waits: asyncio.Event | None = None
        self.is_calm = True
        self.keeper = PlanKeeper([Kept(self.model, self.measure, self.given_up.set, self.swap)], self.calm)

    def assemble(self, plan: Plan) -> ServedModel:
        manifest = Manifest(name="net", version="1", artifacts=[Artifact(precision="fp32")])
        info = ModelInfo(manifest, (), "fp32", CPU_PROVIDER, False, None, plan)
        self.engines = [HeldEngine() for _ in range(plan.engines)]
        return assemble(info, self.engines, Settings(Path()), self.metrics)

    async def calm(self) -> bool:
        return self.is_calm

    async def measure(self) -> Plan:
        if self.waits is not None:
            self.waits.set()
            await self.given_up.wait()
            raise EngineError("given up")
        found = self.found.pop(0)
        if isinstance(found, EngineError):
            raise found
        return found

    async def swap(self, plan: Plan) -> None:
        self.swaps.append(plan)
        await self.model.swap(self.assemble(plan))

    async def look(self) -> bool:
        return await self.keeper.look(self.keeper.kept[0])


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "LET_GO_SECONDS", 0.0)


@asynccontextmanager
async def serving(plan: Plan, *found: Plan | EngineError) -> AsyncIterator[Server]:
    server = Server(plan, *found)
    await settle()
    try:
        yield server
    finally:
        await server.model.batcher.close()


async def test_a_plan_that_was_measured_under_load_ends_as_the_one_that_a_calm_start_finds() -> None:
    calm_plan = plan_of(2, 1)
    async with serving(plan_of(1, 2, share=0.5), plan_of(1, 2, share=0.6), calm_plan) as server:
        server.is_calm = False
        assert not await server.look()
        assert len(server.found) == 2  # nothing is measured beside the busy loop
        server.is_calm = True
        assert not await server.look()  # disturbed again: not taken
        assert server.swaps == []
        assert await server.look()
        assert server.swaps == [calm_plan]
        assert server.model.info.plan == calm_plan
        assert "2 engines x 1 threads" in server.model.properties["plan"]
        assert not await server.look()  # and now it is left alone
        assert server.model.engines_up == 2


async def test_a_plan_that_tells_other_times_than_batches_take_is_measured_again_and_one_that_does_not_is_not() -> None:
    slower = choose([Trial("fp32", 2, 1, rows, 3e-3 * rows) for rows in (1, 8)], None, 2)
    async with serving(plan_of(2, 1), slower) as server:
        for _ in range(ENOUGH):
            server.model.watch.note(4, 4.2e-3)
        assert not await server.look()
        for _ in range(5 * ENOUGH):
            server.model.watch.note(4, 12e-3)
        assert await server.look()
        assert server.swaps == []  # the same engines and batches: only its figures are other ones
        assert server.model.cost.planned(8) == pytest.approx(24e-3)
        assert not server.model.watch.looks_wrong


async def test_a_measurement_gives_way_to_whoever_asks_for_something() -> None:
    async with serving(plan_of(1, 2, share=0.5)) as server:
        server.waits = asyncio.Event()
        looking = asyncio.create_task(server.look())
        await server.waits.wait()
        asked = asyncio.create_task(server.model.infer(image(7), None))
        await asyncio.wait_for(server.given_up.wait(), 20)
        assert not await looking
        await server.engines[0].release()
        assert values_of(await asked) == [7]
        assert server.swaps == []


async def test_a_measurement_that_fails_leaves_the_plan_as_it_is() -> None:
    plan = plan_of(1, 2, share=0.5)
    async with serving(plan, EngineError("no trial")) as server:
        assert not await server.look()
        assert server.model.info.plan == plan


async def test_a_swap_loses_nobody() -> None:
    async with serving(plan_of(1, 2, share=0.5)) as server:
        old = server.engines[0]
        told: list[int] = []
        server.model.watch_engines(told.append)
        before = [asyncio.create_task(server.model.infer(image(value), None)) for value in (1, 2)]
        await settle()
        swapping = asyncio.create_task(server.swap(plan_of(2, 1)))
        await settle()
        after = asyncio.create_task(server.model.infer(image(3), None))
        await settle()
        assert server.engines[0].batches == [[3]]  # the new engines take what is new, beside the old ones
        await server.engines[0].release()
        while old.held:
            await old.release()
        await asyncio.wait_for(swapping, 20)
        assert [values_of(await task) for task in (*before, after)] == [[1], [2], [3]]
        assert told == [1, 2]


def test_a_few_odd_batches_say_nothing_and_many_do() -> None:
    watch = PlanWatch(1e-3, 1e-3)
    for _ in range(ENOUGH - 1):
        watch.note(1, 1.0)
    assert not watch.looks_wrong
    watch.renew(1e-3, 1e-3)
    rng = np.random.default_rng(0)
    for _ in range(500):
        watch.note(4, 5e-3 * rng.uniform(0.8, 1.3))
    assert not watch.looks_wrong
    watch.note(4, 5.0)  # a stall
    assert not watch.looks_wrong


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (ProcessorTime(2.0, 0.0, 200, 0, 0), 1.0),
        (ProcessorTime(1.0, 1.0, 200, 0, 0), 0.5),  # as long as it ran, it waited for others
        (ProcessorTime(2.0, 0.0, 150, 0, 50), 0.75),  # the host took a quarter
    ],
)
def test_the_share_counts_waiting_and_what_the_host_stole(after: ProcessorTime, share: float) -> None:
    assert after.share_since(ProcessorTime(0.0, 0.0, 0, 0, 0)) == pytest.approx(share)


def test_processor_time_goes_on() -> None:
    before: Any = processor_time()
    total = sum(range(2_000_000))
    after = processor_time()
    assert total and after.ran >= before.ran
    assert 0.0 <= after.share_since(before) <= 1.0
    assert 0.0 <= after.idle_since(before) <= 1.0
    assert replace(after) == after


def test_a_thread_that_ends_takes_no_time_with_it() -> None:
    """A session's threads end with it: what they had computed was once taken from what this process computed since."""
    computed, may_end = threading.Event(), threading.Event()

    def compute() -> None:
        sum(range(2_000_000))
        computed.set()
        may_end.wait()

    thread = threading.Thread(target=compute)
    thread.start()
    computed.wait()
    before = processor_time()
    may_end.set()
    thread.join()
    while Path(f"/proc/self/task/{thread.native_id}").exists():  # the system's thread ends after Python's
        pass
    after = processor_time()
    assert after.ran >= before.ran
    assert 0.0 <= after.share_since(before) <= 1.0
