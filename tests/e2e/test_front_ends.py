"""Two front ends on one port: same answers, one scrape, and each kind of process may die."""

import os
import signal
import subprocess
import urllib.request
from pathlib import Path

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray
from processes import engines_of, front_ends_of, wait_for_end
from resnet_client import Client, ClientError
from resnet_models.sample import load_sample
from serving import RunningServer, command, running_server

IMAGES = load_sample().images[:16]
ENGINES = ("--engines", "2", "--threads", "1")
OPTIONS = ("--frontends", "2", *ENGINES)


def total(server: RunningServer, name: str) -> float:
    """The sum of a metric's samples in one scrape."""
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        lines = page.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((name + " ", name + "{")))


def ask(server: RunningServer, timeout: float = 30) -> NDArray[np.float32]:
    """One call over a connection of its own; the system gives it to one of the front ends."""
    with Client(server.url, timeout=timeout) as client:
        return client.infer(IMAGES)


def ask_until(server: RunningServer, metric: str, reached: float) -> int:
    """Keep asking until a metric has got there; how many were answered. A call may meet a process that has just died or hangs."""
    answered = 0
    for _ in range(3000):
        try:
            ask(server, timeout=2)
            answered += 1
        except ClientError as error:
            assert error.status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED), error
        if total(server, metric) >= reached:
            return answered
    raise AssertionError(f"{metric} never reached {reached}")


@pytest.mark.parametrize("count", [2, 4])
def test_front_ends_share_port_engines_and_metrics_and_may_die_or_hang(count: int, repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log", "--frontends", str(count), *ENGINES) as server:
        expected = ask(server)
        for _ in range(20):
            np.testing.assert_allclose(ask(server), expected, atol=1e-4)
        assert total(server, "resnet_requests_total") == 21
        assert total(server, "resnet_images_total") == 21 * len(IMAGES)
        assert total(server, "resnet_batch_rows_count") == total(server, "resnet_compute_seconds_count") > 0

        front_ends, engines = front_ends_of(server), engines_of(server)
        assert (len(front_ends), len(engines)) == (count, 2)
        os.kill(front_ends[0], signal.SIGKILL)
        ask_until(server, "resnet_front_end_restarts_total", 1)
        assert total(server, "resnet_requests_total") >= 21  # what the dead one counted is not forgotten

        os.kill(front_ends_of(server)[-1], signal.SIGSTOP)  # it answers nothing any more; connections of others go on
        ask_until(server, "resnet_front_end_restarts_total", 2)

        os.kill(engines[0], signal.SIGKILL)
        ask_until(server, "resnet_engine_restarts_total", 1)
        ask_until(server, "resnet_engines_ready", 2)
        np.testing.assert_allclose(ask(server), expected, atol=1e-4)
        everyone = [*front_ends_of(server), *engines_of(server)]
        assert server.terminate() == 0
    for pid in everyone:
        wait_for_end(pid)


def test_front_ends_end_with_a_server_that_is_killed(repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log", *OPTIONS) as server:
        everyone = [*front_ends_of(server), *engines_of(server)]
        assert len(everyone) == 4
        server.process.kill()
        for pid in everyone:
            wait_for_end(pid)


@pytest.mark.parametrize("front_ends", ["1", "2"])
def test_a_port_in_use_is_one_line(front_ends: str, repository: Path, server: RunningServer) -> None:
    port = server.url.rpartition(":")[2]
    arguments = command(repository, "--frontends", front_ends, "--grpc-port", port)
    result = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"grpc-port: 127.0.0.1:{port} cannot be opened" in result.stderr
    assert "Traceback" not in result.stderr
