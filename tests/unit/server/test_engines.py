"""Engines on real ONNX Runtime: both kinds answer alike, and a process that dies comes back and leaves nothing behind."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from resnet_models.sample import load_sample
from resnet_server.engines.api import CPU_PROVIDER, Device, EngineSpec, Images, Outcome
from resnet_server.engines.process.channel import EngineChannel
from resnet_server.engines.process.engine import Plug, ProcessEngine
from resnet_server.engines.process.shared_slots import IDLE, SharedSlots
from resnet_server.engines.thread_engine import ThreadEngine
from resnet_server.errors import EngineDiedError, EngineError
from resnet_server.models.certificate_replay import compute

KINDS = [ThreadEngine, ProcessEngine]
AnyEngine = ThreadEngine | ProcessEngine


@pytest.fixture
def spec(repository: Path) -> EngineSpec:
    path = repository / "resnet20" / "1" / "model.fp32.onnx"
    return EngineSpec(path, Device("cpu", CPU_PROVIDER, "test"), 1, 0, 8, 32, 32, 10)


@asynccontextmanager
async def opened(engine: AnyEngine) -> AsyncIterator[AnyEngine]:
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_rows_come_back_in_order_whatever_parts_they_came_in(kind: Callable[[EngineSpec], AnyEngine], spec: EngineSpec) -> None:
    images = load_sample().images[:5]
    async with opened(kind(spec)) as engine:
        whole = await compute(engine, images)
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        engine.start([images[:2], images[2:3], images[3:]], 5, False, ended.set_result)
        outcome = await ended
        assert outcome.logits is not None
        np.testing.assert_array_equal(outcome.logits, whole)
        assert outcome.seconds > 0
        each = np.concatenate([await compute(engine, image[None]) for image in images])
        np.testing.assert_allclose(each, whole, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_file_that_onnx_runtime_refuses_is_an_error_at_open(
    kind: Callable[[EngineSpec], AnyEngine], spec: EngineSpec, tmp_path: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(EngineError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        async with opened(kind(replace(spec, path=tmp_path / "broken.onnx"))):
            pass


@pytest.mark.parametrize("kind", KINDS)
async def test_a_session_that_would_fall_back_to_another_device_is_an_error(
    kind: Callable[[EngineSpec], AnyEngine], spec: EngineSpec
) -> None:
    with pytest.raises(EngineError, match="asked for MadeUpProvider, but ONNX Runtime fell back to CPUExecutionProvider"):
        async with opened(kind(replace(spec, device=Device("cpu", "MadeUpProvider", "test")))):
            pass


async def test_two_batches_lie_ready_and_a_kill_fails_only_the_one_that_ran(spec: EngineSpec) -> None:
    images = np.concatenate([load_sample().images[:8]] * 32)
    restarts, back = 0, asyncio.Event()

    def on_restart() -> None:
        nonlocal restarts
        restarts += 1

    engine = ProcessEngine(replace(spec, max_rows=256), on_restart)
    async with opened(engine):
        right = await compute(engine, images)
        first, slots = engine.pid, SharedSlots(engine.memory, engine.spec, engine.depth)
        ends = [start(engine, images) for _ in range(2)]
        while slots.running == IDLE:  # noqa: ASYNC110  # another process changes it
            await asyncio.sleep(0)
        os.kill(first, signal.SIGKILL)
        running, waiting = await asyncio.gather(*ends)
        assert isinstance(running.error, EngineDiedError)
        assert "ended while it computed; try again" in str(running.error)
        assert (running.begun, waiting.begun) == (True, False)
        assert not engine.ready
        engine.watch(back.set)
        await asyncio.wait_for(back.wait(), 30)
        assert restarts == 1
        assert engine.pid not in (0, first)
        np.testing.assert_array_equal(await compute(engine, images), right)
    assert engine.pid == 0


async def test_an_engine_that_dies_before_it_begins_gives_everything_back(spec: EngineSpec) -> None:
    images = load_sample().images[:8]
    engine = ProcessEngine(spec)
    async with opened(engine):
        os.kill(engine.pid, signal.SIGSTOP)
        ends = [start(engine, images) for _ in range(2)]
        os.kill(engine.pid, signal.SIGKILL)
        assert [outcome.begun for outcome in await asyncio.gather(*ends)] == [False, False]


async def test_channels_share_an_engine_and_one_that_closes_leaves_the_others_alone(spec: EngineSpec) -> None:
    images = load_sample().images[:8]
    engine = ProcessEngine(spec)
    async with opened(engine):
        other = EngineChannel(spec)
        plug = Plug(other.memory, other.connect)
        engine.process.plug_in(plug)
        first, second = await asyncio.gather(start(engine, images), start(other, images[::-1].copy()))
        assert first.logits is not None
        assert second.logits is not None
        np.testing.assert_allclose(first.logits, second.logits[::-1], atol=1e-4)
        engine.process.unplug(plug)
        other.close_channel()
        np.testing.assert_array_equal(await compute(engine, images), first.logits)


def start(engine: EngineChannel, images: Images) -> "asyncio.Future[Outcome]":
    ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    engine.start([images], len(images), False, ended.set_result)
    return ended


async def test_an_engine_that_dies_again_and_again_is_started_less_and_less_often(spec: EngineSpec) -> None:
    now = asyncio.get_running_loop().time
    died: list[float] = []
    engine = ProcessEngine(spec, lambda: died.append(now()))

    def note(back: asyncio.Event) -> None:
        if engine.ready:
            back.set()

    async with opened(engine):
        pauses = []
        for _ in range(3):
            back, pause = asyncio.Event(), engine.process.child.back_off
            engine.watch(partial(note, back))
            os.kill(engine.pid, signal.SIGKILL)
            await asyncio.wait_for(back.wait(), 30)
            assert now() - died[-1] >= pause
            pauses.append(pause)
        assert pauses == sorted(set(pauses))
        assert pauses[2] == 4 * pauses[0]


async def test_closing_ends_the_process_and_frees_the_memory(spec: EngineSpec) -> None:
    held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # pathlib would hold one open itself
    engine = ProcessEngine(spec)
    async with opened(engine):
        pid = engine.pid
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert len(os.listdir("/proc/self/fd")) == held  # noqa: PTH208


async def test_a_batch_for_an_engine_that_has_just_gone_comes_back_soon_and_keeps_no_slot(spec: EngineSpec) -> None:
    link = EngineChannel(spec)  # as between the end of one process and the start of the next
    images = load_sample().images[:1]
    for _ in range(3 * link.depth):
        ended: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        link.start([images], 1, False, ended.set_result)
        assert not ended.done()  # the batcher holds its lock now
        outcome = await asyncio.wait_for(ended, 5)
        assert isinstance(outcome.error, EngineDiedError) and not outcome.begun
    link.close_channel()
