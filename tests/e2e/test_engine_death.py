"""Engines killed under load, and a server killed outright: no wrong or lost answer, and nothing left behind."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from chaos import png
from processes import SHARED, descendants, end_in_its_sleep, engines_of, left_behind, wait_for_end
from resnet_client import AsyncClient, Client, messages
from resnet_client.messages import Asked, infer_request
from resnet_models.sample import load_sample
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_proto.trailers import COMPUTED, MAYBE
from serving import RunningServer, running_server

KILL_AFTER = (100, 200, 300)  # answers
ENOUGH = 500
CALLERS = 12


async def test_engines_killed_under_load_cost_their_batch_and_nothing_else(repository: Path, tmp_path: Path) -> None:
    """Asked without a client that tries again: each call that an engine's death costs is seen, and the server counts the same."""
    images = load_sample().images[:64]
    with running_server(repository, tmp_path / "log", "--engines", "2", "--threads", "1") as server:
        async with AsyncClient(server.url) as client, grpc.aio.insecure_channel(server.url) as channel:
            stub = GRPCInferenceServiceStub(channel)
            expected = await client.infer(images)
            answered, failures, kills = 0, 0, 0

            def kill_one() -> None:
                nonlocal kills
                os.kill(engines_of(server)[0], signal.SIGKILL)
                kills += 1

            async def ask(seed: int) -> None:
                nonlocal answered, failures
                rng = random.Random(seed)
                while answered < ENOUGH:
                    start, count = rng.randrange(56), rng.choice((1, 1, 3, 8))
                    try:
                        answer = await stub.ModelInfer(infer_request(images[start : start + count], Asked()))
                    except grpc.aio.AioRpcError as error:
                        assert error.code() is grpc.StatusCode.UNAVAILABLE, error
                        trailers: Any = error.trailing_metadata()  # the stubs know it not as pairs
                        assert (COMPUTED, MAYBE) in tuple(trailers)
                        failures += 1
                    else:
                        logits = messages.logits(answer, count)
                        np.testing.assert_allclose(logits, expected[start : start + count], atol=1e-3)
                        answered += 1
                        if answered in KILL_AFTER:
                            kill_one()

            await asyncio.gather(*(ask(seed) for seed in range(CALLERS)))
            assert kills == len(KILL_AFTER)
            assert failures <= kills * CALLERS  # at most a running batch each
            np.testing.assert_allclose(await client.infer(images), expected, atol=1e-3)
        died = [float(line.split()[-1]) for line in scrape(server) if line.startswith("resnet_rejects_total") and "engine_died" in line]
        assert sum(died) == failures
        assert f"{kills}.0" in "".join(line for line in scrape(server) if line.startswith("resnet_engine_restarts_total"))
        assert server.terminate() == 0


def scrape(server: RunningServer) -> list[str]:
    import urllib.request

    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        lines: list[str] = page.read().decode().splitlines()
    return lines


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_outlives_the_server(how: signal.Signals, repository: Path, tmp_path: Path) -> None:
    shared_before = set(Path(SHARED).iterdir())
    with running_server(repository, tmp_path / "log") as server:
        with Client(server.url) as client:
            client.classify(png(load_sample().images[0]))
        everyone = descendants(server.process.pid)
        assert len(everyone) >= len(engines_of(server)) + 2  # a decoder, and what it was forked from
        if how is signal.SIGKILL:
            everyone = end_in_its_sleep(server)
        server.process.send_signal(how)
        server.process.wait(30)
        for pid in everyone:
            wait_for_end(pid)
    assert not left_behind(shared_before)
