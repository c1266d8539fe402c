"""Every start of an engine's process, first or later: with the certified bytes only, and again whatever kept it from starting."""

import asyncio
import errno
import hashlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batching import HeldEngine, settle
from resnet_models.sample import load_sample
from resnet_server.engines.api import CPU_PROVIDER, Device, Engine, EngineSpec
from resnet_server.engines.process.engine import ProcessEngine
from resnet_server.engines.thread_engine import ThreadEngine
from resnet_server.errors import EngineError
from resnet_server.models.certificate_replay import compute

IMAGES = load_sample().images[:4]
SECONDS = 60
SOON = 0.35  # for an event loop that has nothing else to do


@pytest.fixture
def spec(repository: Path, tmp_path: Path) -> EngineSpec:
    path = Path(shutil.copy(repository / "resnet20" / "1" / "model.fp32.onnx", tmp_path / "model.fp32.onnx"))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return EngineSpec(path, Device("cpu", CPU_PROVIDER, "test"), 1, 0, 8, 32, 32, 10, digest)


@asynccontextmanager
async def opened(engine: ProcessEngine) -> AsyncIterator[ProcessEngine]:
    try:
        await engine.open()
        yield engine
    finally:
        await engine.close()


async def killed(engine: ProcessEngine) -> asyncio.Event:
    """Kill it and wait until that is seen; the event is for its return."""
    gone, back = asyncio.Event(), asyncio.Event()
    engine.watch(lambda: (back if engine.ready else gone).set())
    os.kill(engine.pid, signal.SIGKILL)
    await asyncio.wait_for(gone.wait(), SECONDS)
    return back


async def logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """Wait until somebody has logged it."""
    seen, loop = asyncio.Event(), asyncio.get_running_loop()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                loop.call_soon_threadsafe(seen.set)

    listener = Listener()
    logging.getLogger().addHandler(listener)
    try:
        if text not in caplog.text:
            await asyncio.wait_for(seen.wait(), SECONDS)
    finally:
        logging.getLogger().removeHandler(listener)


@pytest.mark.parametrize("kind", [ThreadEngine, ProcessEngine])
async def test_other_bytes_than_were_certified_are_refused_at_the_first_start(
    kind: Callable[[EngineSpec], ThreadEngine | ProcessEngine], spec: EngineSpec
) -> None:
    engine = kind(replace(spec, sha256="0" * 64))
    with pytest.raises(EngineError, match=r"model\.fp32\.onnx: its sha256 is .*, expected 000000000000.*changed after it was certified"):
        await engine.open()
    await engine.close()


async def test_a_file_that_was_swapped_since_is_not_served_after_a_restart_and_the_right_one_is_again(
    spec: EngineSpec, caplog: pytest.LogCaptureFixture
) -> None:
    right = spec.path.read_bytes()
    async with opened(ProcessEngine(spec)) as engine:
        expected = await compute(engine, IMAGES)
        spec.path.write_bytes(right + b"\0")
        back = await killed(engine)
        await logged(caplog, "changed after it was certified")
        assert not engine.ready
        spec.path.unlink()
        await logged(caplog, "it cannot be read")
        assert not engine.ready
        spec.path.write_bytes(right)
        await asyncio.wait_for(back.wait(), SECONDS)
        np.testing.assert_array_equal(await compute(engine, IMAGES), expected)


@pytest.mark.parametrize("refusal", [errno.EAGAIN, errno.ENOMEM, errno.EMFILE])
@pytest.mark.parametrize("what", ["Popen", "socketpair"])
async def test_what_keeps_a_process_from_starting_once_does_not_keep_it_for_good(
    what: str, refusal: int, spec: EngineSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(ProcessEngine(spec)) as engine:
        held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # pathlib would hold one open itself
        owner: Any = subprocess if what == "Popen" else socket
        works, failures = getattr(owner, what), [2]

        def fails_twice(*arguments: Any, **options: Any) -> Any:
            if failures[0]:
                failures[0] -= 1
                raise OSError(refusal, os.strerror(refusal))
            return works(*arguments, **options)

        monkeypatch.setattr(owner, what, fails_twice)
        back = await killed(engine)
        await asyncio.wait_for(back.wait(), SECONDS)
        assert failures == [0]
        assert f"({os.strerror(refusal)}); trying again in" in caplog.text
        assert len(await compute(engine, IMAGES)) == len(IMAGES)
        assert len(os.listdir("/proc/self/fd")) == held  # noqa: PTH208


async def test_a_first_start_that_the_system_refuses_is_one_line(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    engine = ProcessEngine(spec)
    with pytest.raises(EngineError, match="the engine's process cannot be started: Resource temporarily unavailable"):
        await engine.open()
    await engine.close()


async def test_the_certificate_is_replayed_before_a_restarted_engine_serves(spec: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    verdicts = [EngineError("replay: at batch 8 the error is 3"), None]
    served_while_checked: list[bool] = []

    async with opened(ProcessEngine(spec)) as engine:
        expected = await compute(engine, IMAGES)

        async def certify(channel: Engine) -> None:
            np.testing.assert_array_equal(await compute(channel, IMAGES), expected)
            served_while_checked.append(engine.ready)
            if verdict := verdicts.pop(0):
                raise verdict

        engine.process.certify = certify
        back = await killed(engine)
        await asyncio.wait_for(back.wait(), SECONDS)
        assert served_while_checked == [False, False]
        assert "it does not serve after its restart: replay: at batch 8 the error is 3" in caplog.text
        np.testing.assert_array_equal(await compute(engine, IMAGES), expected)


async def test_modules_in_the_working_folder_are_not_run(spec: EngineSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "selectors.py").write_text("raise SystemExit('a module from the working folder')")
    monkeypatch.chdir(tmp_path)
    async with opened(ProcessEngine(spec)) as engine:
        assert len(await compute(engine, IMAGES)) == len(IMAGES)


async def test_a_process_that_takes_its_time_to_end_does_not_stop_the_event_loop(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    async with opened(ProcessEngine(spec)) as engine:
        polls = [0]
        process = engine.process.child._process
        assert process is not None

        def hangs_in_the_kernel() -> int | None:
            polls[0] += 1
            return None if polls[0] < 5 else type(process).poll(process)

        def wait(timeout: float | None = None) -> int:
            raise AssertionError("waited on the event loop")

        monkeypatch.setattr(process, "poll", hangs_in_the_kernel)
        monkeypatch.setattr(process, "wait", wait)
        back = await killed(engine)
        await asyncio.wait_for(back.wait(), SECONDS)
        assert polls[0] >= 5


async def test_a_start_that_hangs_is_given_up_and_tried_again(spec: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    """A process that was stopped while it started once stayed for ever, with the engine never back."""
    async with opened(ProcessEngine(spec)) as engine:
        child = engine.process.child
        child.patience = 0.01  # in which no interpreter is there
        back = await killed(engine)
        await logged(caplog, "is not ready 0.01 s after its start; ending it")
        child.patience = SECONDS
        await asyncio.wait_for(back.wait(), SECONDS)
        assert len(await compute(engine, IMAGES)) == len(IMAGES)


async def test_an_engine_that_a_signal_has_stopped_is_ended_and_started_again(spec: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    """Without a batch in it, no watchdog would notice."""
    async with opened(ProcessEngine(spec)) as engine:
        back = asyncio.Event()
        engine.watch(lambda: back.set() if engine.ready else None)
        stopped = time.monotonic()
        os.kill(engine.pid, signal.SIGSTOP)
        await logged(caplog, "has been stopped by a signal; ending it")
        assert time.monotonic() - stopped < SOON
        await asyncio.wait_for(back.wait(), SECONDS)
        assert len(await compute(engine, IMAGES)) == len(IMAGES)


async def test_an_engine_that_had_served_is_back_sooner_than_one_that_never_did(spec: EngineSpec, caplog: pytest.LogCaptureFixture) -> None:
    right = spec.path.read_bytes()
    async with opened(ProcessEngine(spec)) as engine:
        child = engine.process.child
        for served, most in ((1.0, 0.0), (0.2, 0.3)):
            caplog.clear()
            child.back_off = 4.0
            child._proven_at = time.monotonic() - served
            back = await killed(engine)
            await logged(caplog, "starting again in")
            assert float(caplog.text.split()[-2]) <= most
            await asyncio.wait_for(back.wait(), SECONDS)
        spec.path.write_bytes(right + b"\0")
        await killed(engine)
        child.back_off = 0.4  # it has served, still
        await logged(caplog, "changed after it was certified")
        caplog.clear()
        child.back_off = 0.8
        await logged(caplog, "starting again in 0.8 s")
        spec.path.write_bytes(right)


async def test_a_look_that_was_given_up_hears_nothing_more() -> None:
    """The engine's end cancels it first, and is read from its channel after: that must reach the other batches there."""
    engine = HeldEngine()
    looking = asyncio.ensure_future(compute(engine, IMAGES))
    await settle()
    looking.cancel()
    await settle()
    await engine.release()
    assert looking.cancelled()
