"""The server as a process: what it refuses at start, what it refuses to serve, and how it stops."""

import asyncio
import hashlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from resnet_client import AsyncClient, Client, ClientError
from resnet_models.sample import load_sample
from resnet_proto.open_inference_pb2 import ModelInferRequest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer, command, running_server

Damage = Callable[[Path], object]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def replace_manifest(version: Path, text: str) -> None:
    data = text.encode()
    (version / "manifest.json").write_bytes(data)
    (version / "manifest.sha256").write_text(f"{hashlib.sha256(data).hexdigest()}  manifest.json\n")


def drop_certificate(version: Path) -> None:
    """Edit the manifest, and its digest too, as someone would who wants to get past it."""
    manifest = json.loads((version / "manifest.json").read_text())
    del manifest["artifacts"][0]["certificate"]
    replace_manifest(version, json.dumps(manifest))


DAMAGES: dict[str, tuple[Damage, str]] = {
    "model tampered": (lambda v: flip_a_byte(v / "model.fp32.onnx"), "model.fp32.onnx: sha256 is"),
    "model truncated": (lambda v: truncate(v / "model.fp32.onnx"), "model.fp32.onnx: sha256 is"),
    "model missing": (lambda v: (v / "model.fp32.onnx").unlink(), "model.fp32.onnx: cannot be read"),
    "manifest tampered": (lambda v: flip_a_byte(v / "manifest.json"), "manifest.json: sha256 is"),
    "manifest missing": (lambda v: (v / "manifest.json").unlink(), "manifest.json"),
    "labels tampered": (lambda v: flip_a_byte(v / "labels.txt"), "labels.txt: sha256 is"),
    "replay tampered": (lambda v: flip_a_byte(v / "replay.npz"), "replay.npz: sha256 is"),
    "uncertified": (drop_certificate, "model.fp32.onnx: has no certificate"),
    "moved": (lambda v: v.rename(v.with_name("2")), "is of good version 1, not of good version 2"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_with_the_reason_and_the_others_serve(damage: str, repository: Path, tmp_path: Path) -> None:
    hurt, reason = DAMAGES[damage]
    pair = two_models(repository, tmp_path)
    hurt(pair / "good" / "1")
    with running_server(pair, tmp_path / "log") as server, Client(server.url) as client:
        states = {info.name: (info.ready, info.reason) for info in client.models()}
        assert states["resnet20"] == (True, "")
        ready, why = states["good"]
        assert not ready
        assert reason in why
        assert client.infer(load_sample().images[:1], model="resnet20").shape == (1, 10)
        with pytest.raises(ClientError, match=r"model 'good' version \d is refused: ") as error:
            client.infer(load_sample().images[:1], model="good")
        assert error.value.status is grpc.StatusCode.UNAVAILABLE


def two_models(repository: Path, tmp_path: Path) -> Path:
    """`resnet20` as published, and `good`, published from the same network under another name."""
    pair = tmp_path / "pair"
    shutil.copytree(repository, pair)
    model = pair / "good" / "1"
    shutil.copytree(repository / "resnet20" / "1", model)
    rename(model, "good")
    return pair


def rename(version: Path, name: str) -> None:
    replace_manifest(version, (version / "manifest.json").read_text().replace('"name": "resnet20"', f'"name": "{name}"'))


def test_an_uncertified_model_is_served_only_on_demand_and_says_so(own_repository: Path, tmp_path: Path) -> None:
    drop_certificate(own_repository / "resnet20" / "1")
    with running_server(own_repository, tmp_path / "log", "--allow-uncertified") as server, Client(server.url) as client:
        assert client.infer(load_sample().images[:1]).shape == (1, 10)
        assert client.models()[0].agreement is None
        assert "served UNCERTIFIED" in server.log.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cuda"], "device: cuda cannot run here: the NVIDIA driver"),
        (["--models", "resnet9"], "models: resnet9 not in"),
        (["--precision", "fp16"], "every model in"),
    ],
)
def test_a_start_that_cannot_be_is_one_line_and_status_1(arguments: list[str], message: str, repository: Path) -> None:
    if "cuda" in arguments and Path("/proc/driver/nvidia").exists():
        pytest.skip("CUDA runs here")
    assert message in fails(command(repository, *arguments))


def test_an_absent_or_empty_repository_is_one_line(tmp_path: Path) -> None:
    assert "is not a folder" in fails(command(tmp_path / "nowhere"))
    assert "holds no published version" in fails(command(tmp_path))


def test_a_port_in_use_is_one_line(repository: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"grpc-port: 127.0.0.1:{port} cannot be opened" in fails(command(repository, "--grpc-port", port))
        assert f"metrics-port: {port} cannot be opened" in fails(command(repository, "--metrics-port", port))


def fails(arguments: list[str]) -> str:
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


def test_malformed_onnx_files_are_refused(shared: Path, own_repository: Path, tmp_path: Path) -> None:
    version = own_repository / "resnet20" / "1"
    for path in sorted((shared / "onnx").glob("*.onnx")):
        manifest = json.loads((version / "manifest.json").read_text())
        data = path.read_bytes()
        (version / "model.fp32.onnx").write_bytes(data)
        manifest["artifacts"][0]["sha256"] = hashlib.sha256(data).hexdigest()
        replace_manifest(version, json.dumps(manifest))
        assert "every model in" in fails(command(own_repository, "--allow-uncertified")), path.name


def test_every_option_is_an_environment_variable(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_SERVER_MAX_BATCH", "3")
    with running_server(repository, tmp_path / "log") as server, Client(server.url) as client:
        assert client.models()[0].max_batch_rows == 3


@pytest.mark.parametrize("transport", ["queue", "asyncio"])
async def test_sigterm_answers_what_was_accepted_and_refuses_the_rest(transport: str, repository: Path, tmp_path: Path) -> None:
    images = load_sample().images[:64]
    with running_server(repository, tmp_path / "log", "--engines", "1", "--transport", transport) as server:
        async with AsyncClient(server.url) as client:
            await client.models()
            calls = [asyncio.create_task(client.infer(images)) for _ in range(8)]
            watch = asyncio.create_task(call_when_not_serving(server))
            await asyncio.sleep(0)
            await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            code = await asyncio.to_thread(server.terminate)
            answers = await asyncio.gather(*calls)
            assert [answer.shape for answer in answers] == [(64, 10)] * 8
            assert await watch == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        assert code == 0
        with Client(server.url, timeout=5) as late, pytest.raises(ClientError) as error:
            late.infer(images[:1])
        assert error.value.status is grpc.StatusCode.UNAVAILABLE


async def call_when_not_serving(server: RunningServer) -> tuple[grpc.StatusCode, str | None]:
    """What a call gets that comes once the health service has said that the server stops."""
    async with grpc.aio.insecure_channel(server.url) as channel:
        async for answer in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
            if answer.status == health_pb2.HealthCheckResponse.NOT_SERVING:
                break
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await GRPCInferenceServiceStub(channel).ModelInfer(ModelInferRequest(model_name="resnet20"))
    return error.value.code(), error.value.details()


async def test_a_burst_is_answered_or_refused_by_rule_and_never_cancelled_by_lot(repository: Path, tmp_path: Path) -> None:
    message = ModelInferRequest(model_name="resnet20")
    message.inputs.add(name="image", datatype="UINT8", shape=(1, 32, 32, 3))
    message.raw_input_contents.append(load_sample().images[:1].tobytes())
    with running_server(repository, tmp_path / "log", "--max-queue-rows", "200") as server:
        async with grpc.aio.insecure_channel(server.url) as channel:
            infer = GRPCInferenceServiceStub(channel).ModelInfer
            answers = await asyncio.gather(*(infer(message) for _ in range(4000)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, grpc.aio.AioRpcError)]
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert all("queue holds" in str(error.details()) for error in refused)
    assert len(answers) - len(refused) >= 200


def test_the_module_is_the_command() -> None:
    for package in ("resnet_models", "resnet_export", "resnet_server", "resnet_client", "resnet_bench"):
        result = subprocess.run([sys.executable, "-m", package, "--help"], capture_output=True, text=True, check=True)
        assert "Usage:" in result.stdout, package
