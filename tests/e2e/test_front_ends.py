"""Two front ends on one port: same answers, one scrape, and each kind of process may die."""

import json
import os
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from numpy.typing import NDArray
from processes import descendants, end_in_its_sleep, engines_of, front_ends_of, spares_of, wait_for_end
from resnet_client import TLS, Client, ClientError
from resnet_models.sample import load_sample
from resnet_server.endpoints.security.tokens import line_of, new_token
from serving import RunningServer, command, running_server
from tls_files import Keys
from tritonclient.utils import InferenceServerException
from versions import add_version, without_certificate

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
        (spare,) = spares_of(server)
        for pid in front_ends[:2]:  # of two that is all
            os.kill(pid, signal.SIGKILL)
        ask_until(server, "resnet_front_end_restarts_total", 2)
        ask_until(server, "resnet_requests_total", total(server, "resnet_requests_total") + 1)
        assert spare in front_ends_of(server)
        assert total(server, "resnet_requests_total") >= 21  # what the dead ones counted is not forgotten

        os.kill(front_ends_of(server)[-1], signal.SIGSTOP)  # it answers nothing any more; connections of others go on
        ask_until(server, "resnet_front_end_restarts_total", 3)

        os.kill(engines[0], signal.SIGKILL)
        ask_until(server, "resnet_engine_restarts_total", 1)
        ask_until(server, "resnet_engines_ready", 2)
        np.testing.assert_allclose(ask(server), expected, atol=1e-4)
        everyone = descendants(server.process.pid)
        assert server.terminate() == 0
    for pid in everyone:
        wait_for_end(pid)


def test_front_ends_engines_and_what_waits_end_with_a_server_that_is_killed_even_stopped(repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log", *OPTIONS) as server:
        ask(server)
        everyone = end_in_its_sleep(server)
        assert len(everyone) >= 2 + 2 + 1 + 2  # front ends, engines, what waits, and what decoders are forked from
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


def load(server: RunningServer, versions: str) -> None:
    with tritonclient.grpc.InferenceServerClient(server.url) as client:
        path = f"{server.http_url}/v2/repository/models/resnet20/load"
        body = json.dumps({"parameters": {"versions": versions}}).encode()
        with urllib.request.urlopen(urllib.request.Request(path, body)) as answer:  # noqa: S310  # http, from the fixture
            assert json.load(answer) == {}
        assert client.is_server_ready()


def state_of(url: str) -> tuple[str, dict[str, tuple[str, str]]]:
    """Over a connection of its own, so of either front end: who answers, and what the index says."""
    with tritonclient.grpc.InferenceServerClient(url, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
        tensor = tritonclient.grpc.InferInput("image", IMAGES.shape, "UINT8")
        tensor.set_data_from_numpy(IMAGES)
        version = client.infer("resnet20", [tensor]).get_response().model_version
        index = client.get_model_repository_index(as_json=True)["models"]
    return version, {one["version"]: (one["state"], one.get("reason", "")) for one in index}


def test_what_changes_changes_in_all_front_ends_and_no_call_is_lost(own_repository: Path, tmp_path: Path) -> None:
    add_version(own_repository / "resnet20", "2")
    control = ("--model-control", "explicit", "--open-admin", "--versions", "1")
    with running_server(own_repository, tmp_path / "log", *OPTIONS, *control) as server, ThreadPoolExecutor(4) as pool:
        stop = threading.Event()

        def call() -> set[str]:
            seen = set()
            while not stop.is_set():
                seen.add(state_of(server.url)[0])
            return seen

        callers = [pool.submit(call) for _ in range(4)]
        try:
            for version in ("2", "1", "2"):
                load(server, version)
                assert {state_of(server.url)[0] for _ in range(12)} == {version}
        finally:
            stop.set()
        assert set().union(*(caller.result() for caller in callers)) == {"1", "2"}
        assert len(engines_of(server)) == 2  # those of one version
        assert state_of(server.url)[1] == {"2": ("READY", "")}
        assert total(server, "resnet_engines_ready") == 2
        add_version(own_repository / "resnet20", "3", without_certificate)
        with pytest.raises(urllib.error.HTTPError) as refused:
            load(server, "3")
        assert "version 3 is refused" in json.load(refused.value)["error"]
        states = [state_of(server.url) for _ in range(8)]
        assert {(version, index["3"][0], index["2"][0]) for version, index in states} == {("2", "UNAVAILABLE", "READY")}

        os.kill(front_ends_of(server)[0], signal.SIGKILL)  # the next one begins with what is served now
        ask_until(server, "resnet_front_end_restarts_total", 1)
        assert {state_of(server.url)[0] for _ in range(12)} == {"2"}
        with urllib.request.urlopen(urllib.request.Request(f"{server.http_url}/v2/repository/models/resnet20/unload", b"")):  # noqa: S310
            pass
        for _ in range(8):
            with pytest.raises(InferenceServerException, match="model 'resnet20' version 2 is unloaded"):
                state_of(server.url)
        assert engines_of(server) == []
        assert server.terminate() == 0


def test_weights_hold_in_all_front_ends(own_repository: Path, tmp_path: Path) -> None:
    add_version(own_repository / "resnet20", "2")
    given = ("--weights", "resnet20=1:0.5,2:0.5")
    with running_server(own_repository, tmp_path / "log", "--frontends", "2", "--engines", "1", "--threads", "1", *given) as server:
        for _ in range(4):
            with tritonclient.grpc.InferenceServerClient(server.url, channel_args=[("grpc.use_local_subchannel_pool", 1)]) as client:
                tensor = tritonclient.grpc.InferInput("image", IMAGES.shape, "UINT8")
                tensor.set_data_from_numpy(IMAGES)
                assert {client.infer("resnet20", [tensor]).get_response().model_version for _ in range(40)} == {"1", "2"}


def test_front_ends_speak_tls_and_ask_for_tokens(repository: Path, tmp_path: Path) -> None:
    keys, token = Keys(tmp_path), new_token()
    (tmp_path / "tokens").write_text(line_of("camera", token, ("infer",), {}))
    secured = ("--tls-cert", str(keys.cert), "--tls-key", str(keys.key), "--tokens", str(tmp_path / "tokens"))
    tls = TLS(roots=keys.roots)
    with running_server(repository, tmp_path / "log", *OPTIONS, *secured) as server:
        for _ in range(6):  # either front end
            with Client(server.url, tls=tls, token=token) as client:
                assert len(client.infer(IMAGES)) == len(IMAGES)
            with Client(server.url, tls=tls, token=new_token()) as client, pytest.raises(ClientError) as error:
                client.infer(IMAGES)
            assert error.value.status is grpc.StatusCode.UNAUTHENTICATED
        with pytest.raises(ClientError):
            ask(server, timeout=2)
        assert server.terminate() == 0
