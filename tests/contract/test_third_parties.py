"""nginx in front of the server as a proxy for both protocols, and grpcurl, which knows the methods by reflection alone."""

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer

NGINX, GRPCURL = shutil.which("nginx") or shutil.which("/usr/sbin/nginx"), shutil.which("grpcurl")
IMAGES = load_sample().images[:4]
CONFIGURATION = """
daemon off; pid {folder}/pid; error_log {folder}/errors warn; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 4m; proxy_max_temp_file_size 0;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream grpc {{ server {grpc}; keepalive 16; }}
  upstream rest {{ server {rest}; keepalive 16; }}
  server {{ listen 127.0.0.1:{grpc_port} http2; location / {{ grpc_pass grpc://grpc; }} }}
  server {{ listen 127.0.0.1:{rest_port};
    location / {{ proxy_pass http://rest; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
}}
"""


def free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


@pytest.fixture
def proxied(server: RunningServer, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Addresses of gRPC and REST behind nginx."""
    grpc_port, rest_port = free_ports(2)
    rest = server.http_url.removeprefix("http://")
    text = CONFIGURATION.format(folder=tmp_path, grpc=server.url, rest=rest, grpc_port=grpc_port, rest_port=rest_port)
    (tmp_path / "nginx.conf").write_text(text)
    assert NGINX is not None
    process = subprocess.Popen([NGINX, "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        with grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
            grpc.channel_ready_future(channel).result(timeout=30)
        yield f"127.0.0.1:{grpc_port}", f"http://127.0.0.1:{rest_port}"
    finally:
        process.terminate()
        process.wait(30)


def request(images: Any = IMAGES, name: str = "resnet20") -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=name, raw_input_contents=[images.tobytes()])
    made.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    return made


@pytest.mark.skipif(NGINX is None, reason="nginx is not on this machine: apt-get install nginx")
def test_calls_deadlines_and_cancellations_pass_through_nginx(proxied: tuple[str, str], server: RunningServer) -> None:
    with grpc.insecure_channel(proxied[0]) as channel, grpc.insecure_channel(server.url) as straight:
        stub = GRPCInferenceServiceStub(channel)
        expected = GRPCInferenceServiceStub(straight).ModelInfer(request(), timeout=30).raw_output_contents[0]
        found = stub.ModelInfer(request(), timeout=30).raw_output_contents[0]
        np.testing.assert_allclose(np.frombuffer(found, np.float32), np.frombuffer(expected, np.float32), atol=1e-4)
        with pytest.raises(grpc.RpcError) as unknown:
            stub.ModelInfer(request(name="nobody"), timeout=30)
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        assert "'nobody' is unknown" in str(unknown.value.details())
        with pytest.raises(grpc.RpcError) as late:
            stub.ModelInfer(request(np.zeros((64, 32, 32, 3), np.uint8)), timeout=0.001)
        assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        calls = [stub.ModelInfer.future(request(np.zeros((64, 32, 32, 3), np.uint8)), timeout=60) for _ in range(30)]
        for call in calls:
            call.cancel()  # type: ignore[no-untyped-call]  # grpc's stubs
        assert len(stub.ModelInfer(request(), timeout=30).outputs) == 1
        answers = list(stub.ModelStreamInfer(iter([request(), request(name="nobody")]), timeout=30))
        assert [bool(answer.error_message) for answer in answers] == [False, True]
    body = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": IMAGES.shape, "data": IMAGES.ravel().tolist()}]}
    answer = httpx.post(f"{proxied[1]}/v2/models/resnet20/infer", json=body)
    np.testing.assert_allclose(answer.json()["outputs"][0]["data"], np.frombuffer(expected, np.float32), atol=1e-4)
    assert httpx.get(f"{proxied[1]}/v2/models/nobody").status_code == 404


def grpcurl(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([str(GRPCURL), "-plaintext", *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.skipif(GRPCURL is None, reason="grpcurl is not on this machine")
def test_grpcurl_knows_the_methods_by_reflection(server: RunningServer) -> None:
    listed = grpcurl(server.url, "list").stdout.split()
    assert {"inference.GRPCInferenceService", "resnet.v1.Classifier", "grpc.health.v1.Health"} <= set(listed)
    asked = grpcurl("-d", '{"name": "resnet20"}', server.url, "inference.GRPCInferenceService/ModelMetadata")
    assert json.loads(asked.stdout)["inputs"][0]["datatype"] == "UINT8"
    assert json.loads(grpcurl(server.url, "grpc.health.v1.Health/Check").stdout) == {"status": "SERVING"}
    wrong = grpcurl("-d", '{"name": "nobody"}', server.url, "inference.GRPCInferenceService/ModelMetadata")
    assert "Code: NotFound" in wrong.stderr
