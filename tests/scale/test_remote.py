"""A repository in a bucket, over S3's own protocol: moto's server, s3fs, and our server as a process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
from serving import running_server

pytest.importorskip("moto.server", reason="moto is not here: pip install 'moto[s3,server]'")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not here: pip install s3fs")

from moto.server import ThreadedMotoServer  # noqa: E402  # skipped without it

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}  # moto's own


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ThreadedMotoServer, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {**KEYS, "FSSPEC_S3_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    try:
        yield server, f"http://{host}:{port}"
    finally:
        server.stop()


def version(url: str) -> str:
    images = np.zeros((2, 32, 32, 3), np.uint8)
    with tritonclient.grpc.InferenceServerClient(url) as client:
        tensor = tritonclient.grpc.InferInput("image", images.shape, "UINT8")
        tensor.set_data_from_numpy(images)
        return str(client.infer("resnet20", [tensor]).get_response().model_version)


def test_a_bucket_is_served_and_its_copy_when_it_is_gone(bucket: tuple[ThreadedMotoServer, str], repository: Path, tmp_path: Path) -> None:
    moto, endpoint = bucket
    files = s3fs.S3FileSystem(endpoint_url=endpoint)
    files.mkdir("networks")
    files.put(f"{repository}/", "networks/models/", recursive=True)
    cache = ("--repository", "s3://networks/models", "--repository-cache", str(tmp_path / "cache"))
    with running_server(tmp_path, tmp_path / "first", *cache) as server:
        assert version(server.url) == "1"
        assert server.terminate() == 0
    assert "fetched from s3://networks/models" in (tmp_path / "first").read_text()
    moto.stop()
    with running_server(tmp_path, tmp_path / "second", *cache) as server:
        assert version(server.url) == "1"
        assert server.terminate() == 0
    assert "s3://networks/models cannot be read" in (tmp_path / "second").read_text()
    empty = {**os.environ, "RESNET_SERVER_REPOSITORY_CACHE": str(tmp_path / "empty")}
    command = [sys.executable, "-m", "resnet_server", "serve", "--repository", "s3://networks/models", "--grpc-port", "0"]
    result = subprocess.run(command, env=empty, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 1
    assert "Error: repository: s3://networks/models cannot be read: " in result.stderr
    assert "Traceback" not in result.stderr
