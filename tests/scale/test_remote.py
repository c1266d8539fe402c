"""A repository elsewhere, over the protocols of S3, Google Cloud Storage and the Hugging Face hub, each spoken by its own fsspec backend.

Our server is a process; on the other side are moto's server, an emulator of Google's storage, and a stand-in for the hub.
"""

import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tritonclient.grpc
from gcp_storage_emulator.server import create_server
from hub import running_hub
from serving import running_server

pytest.importorskip("moto.server", reason="moto is not here: pip install 'moto[s3,server]'")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not here: pip install s3fs")

from moto.server import ThreadedMotoServer  # noqa: E402  # skipped without it

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}  # moto's own


@contextmanager
def google_bucket(repository: Path) -> Iterator[tuple[str, dict[str, str]]]:
    storage = create_server("127.0.0.1", 0, in_memory=True, default_bucket="networks")
    storage.start()
    try:
        url = f"http://127.0.0.1:{storage._api._httpd.server_address[1]}"
        for path in (path for path in repository.rglob("*") if path.is_file()):
            name = quote(f"models/{path.relative_to(repository)}", safe="")
            place = f"{url}/upload/storage/v1/b/networks/o?uploadType=media&name={name}"
            kind = {"Content-Type": "application/octet-stream"}
            urllib.request.urlopen(urllib.request.Request(place, path.read_bytes(), kind)).close()  # noqa: S310  # our own
        # Without the last, gcsfs asks over gRPC and TLS what kind of bucket it is, which the emulator does not speak.
        settings = {"STORAGE_EMULATOR_HOST": url, "FSSPEC_GS_TOKEN": "anon", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false"}
        yield "gs://networks/models", settings
    finally:
        storage.stop()


@contextmanager
def hub(repository: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with running_hub("somebody/networks", repository) as server:
        yield "hf://somebody/networks", {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_address[1]}"}


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


@pytest.mark.parametrize("other_side", [google_bucket, hub])
def test_a_repository_elsewhere_is_served(other_side: Any, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: AbstractContextManager[tuple[str, dict[str, str]]] = other_side(repository)
    with there as (url, settings):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        cache = ("--repository", url, "--repository-cache", str(tmp_path / "cache"))
        with running_server(tmp_path, tmp_path / "log", *cache, "--precision", "fp32", "--models", "resnet20") as server:
            assert version(server.url) == "1"
            assert server.terminate() == 0
    assert f"resnet20 version 1: fetched from {url}" in (tmp_path / "log").read_text()
