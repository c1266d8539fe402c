"""Known answers to 64 callers while processes are killed and stopped and connections cut: none wrong, none missing, nothing left behind.

`make test` makes trouble for a few seconds, `make chaos` for longer, and prints what was done, how callers fared, and how soon after each
mishap somebody had an answer again.
"""

import asyncio
import os
import random
import time
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from chaos import CALLERS, RECONNECT, TOLERANCE, Callers, Known, Recorder, Trouble, descriptors, known, vanish
from processes import SHARED, descendants, left_behind, wait_for_end
from resnet_client import messages
from resnet_client.messages import Asked, infer_request
from resnet_proto.open_inference_pb2 import ServerReadyRequest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer, running_server

SECONDS = float(os.environ.get("RESNET_CHAOS_SECONDS", "5"))
PAUSE = float(os.environ.get("RESNET_CHAOS_PAUSE", "0.2"))  # between two mishaps
VANISHING = int(os.environ.get("RESNET_CHAOS_DISCONNECTS", "500"))
SEED = int(os.environ.get("RESNET_CHAOS_SEED", "1"))
SETTLING_SECONDS = 30.0
"""Connections that say nothing are given up after 10, and a machine under load needs its time; what it took is printed."""
ENGINES = 2
AT_REST = ("resnet_queue_rows", "resnet_held_bytes")


def total(server: RunningServer, name: str) -> float:
    """The sum of a metric's samples in one scrape."""
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))


def at_rest(server: RunningServer) -> bool:
    return total(server, "resnet_engines_ready") == ENGINES and all(total(server, name) == 0 for name in AT_REST)


async def settled(server: RunningServer) -> float:
    """Seconds until all engines are up and nothing is held for anybody."""
    began = time.monotonic()
    while not await asyncio.to_thread(at_rest, server):
        assert time.monotonic() - began < SETTLING_SECONDS, {name: total(server, name) for name in ("resnet_engines_ready", *AT_REST)}
    return time.monotonic() - began


async def listening(server: RunningServer) -> None:
    """Return once somebody takes connections: the last two mishaps may have killed both front ends."""
    async with grpc.aio.insecure_channel(server.url, RECONNECT) as channel:
        ready = GRPCInferenceServiceStub(channel).ServerReady
        assert (await ready(ServerReadyRequest(), wait_for_ready=True, timeout=SETTLING_SECONDS)).ready


async def all_answered(server: RunningServer, expected: Known) -> None:
    """CALLERS calls at once, on new connections, without a second try."""
    async with grpc.aio.insecure_channel(server.url, RECONNECT) as channel:
        infer = GRPCInferenceServiceStub(channel).ModelInfer
        answers = await asyncio.gather(*(infer(infer_request(expected.images[n : n + 1], Asked())) for n in range(CALLERS)))
    found = [messages.logits(answer, 1) for answer in answers]
    np.testing.assert_allclose(np.concatenate(found), expected.logits[:CALLERS], atol=TOLERANCE)


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.parametrize("front_ends", ["1", "2"])
async def test_whatever_dies_every_call_is_answered_rightly_or_refused(front_ends: str, repository: Path, tmp_path: Path) -> None:
    shared_before = shared_memory()
    arguments = ("--frontends", front_ends, "--engines", str(ENGINES), "--threads", "1")
    with running_server(repository, tmp_path / "log", *arguments) as server:
        callers = Callers(server.url, await known(server.url), SEED)
        trouble = Trouble(server, random.Random(SEED))
        running = asyncio.ensure_future(callers.run())
        await trouble.make(callers, SECONDS, PAUSE)
        took = await settled_under_load(server)
        callers.stop()
        await running
        await settled(server)
        await listening(server)
        await all_answered(server, await known(server.url))
        everyone = descendants(server.process.pid)
        assert server.terminate() == 0
        for pid in everyone:
            wait_for_end(pid)
    soonest = np.sort(trouble.recoveries)
    print(
        f"\n{front_ends} front end(s), {SECONDS:g} s: {dict(sorted(trouble.done.items()))}; calls {dict(callers.answers.statuses)}; "
        f"an answer again after {np.median(soonest):.3f} s (median), {soonest[-1]:.3f} s (most), by mishap {trouble.slowest}; "
        f"each caller answered again {told(callers.recoveries_of_all)}; all engines up {took:.2f} s after the last"
    )
    assert callers.answers.faults == []
    assert callers.answers.statuses["OK"] > CALLERS
    assert sum(trouble.done.values()) > 1
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :]
    assert not left_behind(shared_before)


def told(seconds: list[float]) -> str:
    return (
        f"after {np.median(seconds):.3f} s (median), {max(seconds):.3f} s (most), {len(seconds)} times" if seconds else "never between two"
    )


def shared_memory() -> set[Path]:
    """Named memory of this machine."""
    return set(Path(SHARED).iterdir())


async def settled_under_load(server: RunningServer) -> float:
    """Seconds until all engines are up while callers go on."""
    began = time.monotonic()
    while await asyncio.to_thread(total, server, "resnet_engines_ready") < ENGINES:
        assert time.monotonic() - began < SETTLING_SECONDS
    return time.monotonic() - began


@pytest.mark.timeout(VANISHING / 20 + 240)
@pytest.mark.parametrize("transport", ["queue", "asyncio"])
async def test_callers_that_vanish_leave_nothing_and_cost_nobody(transport: str, repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log", "--transport", transport, "--engines", str(ENGINES), "--threads", "1") as server:
        expected = await known(server.url)
        said = await Recorder().record(server.url, infer_request(expected.images[:8], Asked()))
        await all_answered(server, expected)
        await settled(server)
        before = descriptors(server.process.pid) + 2 * (os.cpu_count() or 1)  # of decoders, one for each core and lane
        callers = Callers(server.url, expected, SEED)
        running = asyncio.ensure_future(callers.run())
        await asyncio.gather(*(vanish(server.url, said, VANISHING // 4, SEED + number) for number in range(4)))
        callers.stop()
        await running
        await settled(server)
        await closed_down_to(server, before)
        await all_answered(server, expected)
        assert server.terminate() == 0
    print(f"\n{transport}: {VANISHING} vanished; calls {dict(callers.answers.statuses)}")
    assert callers.answers.faults == []
    assert set(callers.answers.statuses) <= {"OK", "cancelled by the caller"}
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :]


async def closed_down_to(server: RunningServer, before: int) -> None:
    """Return once the server has no more descriptors than before, and fail if it keeps some: it hears of an end a moment later."""
    ends = time.monotonic() + SETTLING_SECONDS
    while descriptors(server.process.pid) > before:
        assert time.monotonic() < ends, f"{descriptors(server.process.pid)} descriptors are open; {before} were before"
        await asyncio.to_thread(total, server, "resnet_held_bytes")


async def test_a_stopped_engine_is_replaced_and_the_other_serves_on(repository: Path, tmp_path: Path) -> None:
    """SIGSTOP in the middle of batches: their calls are UNAVAILABLE, every other call is answered, and the metric counts it."""
    with running_server(repository, tmp_path / "log", "--engines", str(ENGINES), "--threads", "1") as server:
        expected = await known(server.url)
        callers = Callers(server.url, expected, SEED)
        running = asyncio.ensure_future(callers.run())
        trouble = Trouble(server, random.Random(SEED))
        await trouble.stop_an_engine(callers)
        while await asyncio.to_thread(total, server, "resnet_engine_restarts_total") < 1:
            pass
        await settled_under_load(server)
        callers.stop()
        await running
        assert callers.answers.faults == []
        assert callers.answers.statuses["UNAVAILABLE"] <= CALLERS
        await all_answered(server, expected)
        assert server.terminate() == 0


async def test_a_wrong_answer_is_seen(server: RunningServer) -> None:
    """The judge itself, told other logits than the server gives."""
    expected = await known(server.url)
    callers = Callers(server.url, Known(expected.images, expected.logits[::-1]), SEED)
    running = asyncio.ensure_future(callers.run())
    await callers.answered.wait()
    callers.stop()
    await running
    assert callers.answers.faults[0].startswith("a wrong answer: ")
