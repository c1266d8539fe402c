"""How a server starts and stops: heard in every phase, on every kind of address, as anybody, and truthful about what it can do."""

import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from processes import children, descendants, engines_of, wait_for_end
from resnet_client import Client
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer, command, running_server

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
END_SECONDS = 60
NEVER_PLANNED = ("--plan-seconds", "600")


def request_for(rows: int = 1) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="resnet20")
    request.inputs.add(name="image", datatype="UINT8", shape=(rows, 32, 32, 3))
    request.raw_input_contents.append(load_sample().images[:rows].tobytes())
    return request


@contextmanager
def starting(repository: Path, tmp_path: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """A server that goes on measuring its plan; killed at the end."""
    given = command(repository, "--plan-cache", str(tmp_path / "plans"), *NEVER_PLANNED, *arguments)
    with subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the server ended before it said {text!r}")


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_a_plan_is_measured_ends_server_and_measurement(name: signal.Signals, repository: Path, tmp_path: Path) -> None:
    with starting(repository, tmp_path) as process:
        read_until(process, "transport: ")
        while not (measuring := descendants(process.pid)):
            pass
        process.send_signal(name)
        output, errors = process.communicate(timeout=END_SECONDS)
        assert process.returncode == 0, errors
        assert output == ""
        assert "stopping before the models are loaded" in errors
        assert "Traceback" not in errors
        assert "Aborted" not in errors
        for pid in measuring:
            wait_for_end(pid)


def test_a_signal_while_the_server_is_imported_is_one_line() -> None:
    code = (
        "import os, signal; from resnet_server import cli; cli.raise_descriptors = lambda: os.kill(os.getpid(), signal.SIGTERM); cli.main()"
    )
    given = [sys.executable, "-c", code, "serve", "--repository", "."]
    result = subprocess.run(given, capture_output=True, text=True, timeout=END_SECONDS, check=False)
    assert (result.returncode, result.stderr) == (0, "stopped before the start\n")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_port_answers_while_models_load_and_says_so(repository: Path, tmp_path: Path) -> None:
    port = free_port()
    with starting(repository, tmp_path, "--grpc-port", str(port)) as process, grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        grpc.channel_ready_future(channel).result(END_SECONDS)
        stub, health = GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="resnet20")).ready
        expected = {"": NOT_SERVING, "resnet20": NOT_SERVING, "liveness": SERVING}
        assert {name: health.Check(health_pb2.HealthCheckRequest(service=name)).status for name in expected} == expected
        with pytest.raises(grpc.RpcError) as error:
            stub.ModelInfer(request_for())
        assert (error.value.code(), error.value.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is loading its models")
        process.send_signal(signal.SIGTERM)
        assert process.wait(END_SECONDS) == 0


@pytest.mark.parametrize("transport", ["queue", "asyncio"])
def test_watches_reflection_and_idle_connections_do_not_hold_a_server(transport: str, repository: Path, tmp_path: Path) -> None:
    arguments = ("--transport", transport, "--drain-seconds", "1000")
    with running_server(repository, tmp_path / "log", *arguments) as server:
        idle = socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2])))
        with idle, grpc.insecure_channel(server.url) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "resnet20", "resnet20", "unknown")]
            assert [next(watch).status for watch in watches[:3]] == [SERVING] * 3
            next(watches[3])
            watches.pop(1).cancel()  # with the library's servicer, the others then heard nothing any more
            asked: list[reflection_pb2.ServerReflectionRequest] = [reflection_pb2.ServerReflectionRequest(list_services="*")]
            stream = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(never_ending(asked))
            assert next(stream).list_services_response.service
            server.process.send_signal(signal.SIGTERM)
            for watch in watches:
                assert [answer.status for answer in watch] == [NOT_SERVING]
            assert list(stream) == []
            assert server.process.wait(END_SECONDS) == 0


def never_ending(requests: list[reflection_pb2.ServerReflectionRequest]) -> Iterator[reflection_pb2.ServerReflectionRequest]:
    yield from requests
    signal.sigtimedwait([], END_SECONDS)


def test_stopped_engines_hold_the_end_no_longer_than_was_granted(repository: Path, tmp_path: Path) -> None:
    with running_server(repository, tmp_path / "log", "--engines", "2", "--drain-seconds", "2") as server:
        engines = engines_of(server)
        with grpc.insecure_channel(server.url) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            infer(request_for())
            for pid in engines:
                os.kill(pid, signal.SIGSTOP)
            calls = [infer.future(request_for()) for _ in range(4)]
            assert server.terminate() == 0
            # An engine that took their place in time may have answered.
            assert {call.code() for call in calls} <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        for pid in engines:
            wait_for_end(pid)


@pytest.mark.parametrize("host", ["::1", "[::1]", "::", "[::]"])
def test_every_spelling_of_ipv6(host: str, repository: Path, tmp_path: Path) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running_server(repository, tmp_path / "log", "--host", host) as server:
        port, metrics = server.url.rpartition(":")[2], server.metrics_url.rpartition(":")[2]
        with Client(f"[::1]:{port}") as client:
            assert client.infer(load_sample().images[:1]).shape == (1, 10)
        with urllib.request.urlopen(f"http://[::1]:{metrics}") as page:
            assert b"resnet_model_info" in page.read()
        assert server.terminate() == 0


def test_a_unix_socket_serves_is_taken_once_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with running_server(repository, tmp_path / "log", "--host", f"unix:{path}") as server:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            assert GRPCInferenceServiceStub(channel).ModelInfer(request_for()).model_version == "1"
        second = subprocess.run(
            command(repository, "--host", f"unix:{path}"), capture_output=True, text=True, timeout=END_SECONDS, check=False
        )
        assert second.returncode == 1
        assert second.stderr.splitlines()[-1] == f"Error: host: unix:{path} cannot be opened; is another server running there?"
        assert server.terminate() == 0
        assert not path.exists()


def test_variables_that_kubernetes_sets_are_said_and_ignored(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_SERVER_GRPC_PORT", "tcp://10.96.3.4:8001")
    monkeypatch.setenv("RESNET_SERVER_METRICS_PORT", "tcp://10.96.3.4:8002")
    monkeypatch.setenv("RESNET_SERVER_MAX_BATCH", "tcp://10.96.3.4:8003")
    with running_server(repository, tmp_path / "log") as server, Client(server.url) as client:
        assert client.models()[0].max_batch_rows == 64
        assert "--max-batch: 'tcp://10.96.3.4:8003' in the environment is of a Kubernetes Service; ignored" in server.log.read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_an_unknown_user_without_a_home_is_no_error() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME", "RESNET_SERVER_PLAN_CACHE")}
    given = [sys.executable, "-m", "resnet_server", "serve", "--help"]
    try:
        result = subprocess.run(given, env=environment, cwd="/", user=55555, group=55555, capture_output=True, text=True, check=False)
    except PermissionError:
        pytest.skip("this interpreter is not for other users")
    assert result.returncode == 0, result.stderr


def test_what_64_descriptors_do_not_allow_is_a_clear_line(repository: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_NOFILE, (64, 64))
    with subprocess.Popen(
        command(repository, "--engines", "16"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=limit
    ) as process:
        errors = process.communicate(timeout=END_SECONDS)[1]
    assert process.returncode == 1
    assert "Warning: the limit of 64 open files is low" in errors
    assert "the engine's process cannot be started: Too many open files" in errors
    assert "Traceback" not in errors


def test_a_model_without_engines_is_not_ready_refuses_and_recovers(own_repository: Path, tmp_path: Path) -> None:
    file = own_repository / "resnet20" / "1" / "model.fp32.onnx"
    with running_server(own_repository, tmp_path / "log", "--engines", "2") as server, grpc.insecure_channel(server.url) as channel:
        stub, health = GRPCInferenceServiceStub(channel), health_pb2_grpc.HealthStub(channel)
        watches = [health.Watch(health_pb2.HealthCheckRequest(service=name)) for name in ("", "resnet20", "resnet20/1")]
        assert [next(watch).status for watch in watches] == [SERVING] * 3
        file.rename(tmp_path / "away")
        kill(server)
        assert [next(watch).status for watch in watches] == [NOT_SERVING] * 3
        assert not stub.ServerReady(pb.ServerReadyRequest()).ready
        assert not stub.ModelReady(pb.ModelReadyRequest(name="resnet20")).ready
        assert stub.ServerLive(pb.ServerLiveRequest()).live
        for _ in range(2):  # the first waits for an engine for a while, without a deadline; the second is refused at once
            with pytest.raises(grpc.RpcError) as error:
                stub.ModelInfer(request_for())
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "has no engine; the server goes on starting one" in (error.value.details() or "")
        (tmp_path / "away").rename(file)
        assert [next(watch).status for watch in watches] == [SERVING] * 3
        assert stub.ModelInfer(request_for()).model_version == "1"


def kill(server: RunningServer) -> None:
    for pid in children(server.process.pid, "resnet_server.engines.process.worker"):
        os.kill(pid, signal.SIGKILL)
