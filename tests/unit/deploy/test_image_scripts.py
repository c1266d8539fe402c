"""The scripts that run inside the images, and what `make compose-test` says where it cannot run."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from serving import RunningServer

ROOT = Path(__file__).parents[3]
IMAGE = ROOT / "deploy" / "image"


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def one_line(result: "subprocess.CompletedProcess[str]") -> str:
    assert result.returncode == 1, result.stdout + result.stderr
    (line,) = result.stderr.strip().splitlines()
    return line


def test_the_health_check_asks_the_server(server: RunningServer) -> None:
    port = server.url.rpartition(":")[2]
    result = run(str(IMAGE / "healthcheck.py"), RESNET_SERVER_GRPC_PORT=port)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_the_health_check_fails_in_one_line_where_nothing_listens() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        port = silent.getsockname()[1]
        assert one_line(run(str(IMAGE / "healthcheck.py"), RESNET_SERVER_GRPC_PORT=str(port))) == f"127.0.0.1:{port}: UNAVAILABLE"


def test_the_export_job_leaves_alone_what_is_published(repository: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in repository.rglob("*")}
    result = run(str(IMAGE / "publish_bundled.py"), str(repository), RESNET_NETWORKS="resnet20")
    assert (result.returncode, result.stdout) == (0, "resnet20: version 1 is published already\n"), result.stderr
    assert {path: path.stat().st_mtime_ns for path in repository.rglob("*")} == before


def test_the_export_job_publishes_again_what_no_longer_holds(own_repository: Path) -> None:
    model = own_repository / "resnet20" / "1" / "model.fp32.onnx"
    model.write_bytes(model.read_bytes()[:1000])
    result = run(str(IMAGE / "publish_bundled.py"), str(own_repository), RESNET_NETWORKS="resnet20", RESNET_PRECISIONS="fp32")
    assert result.returncode == 0, result.stderr
    assert "version 1 does not hold: model.fp32.onnx: sha256 is" in result.stdout
    assert (own_repository / "resnet20" / "2" / "manifest.json").is_file()


def test_the_export_job_refuses_a_network_that_is_not_bundled(tmp_path: Path) -> None:
    message = one_line(run(str(IMAGE / "publish_bundled.py"), str(tmp_path), RESNET_NETWORKS="resnet20,resnet9"))
    assert message.startswith("RESNET_NETWORKS: resnet9; expected some of plain20, ")
    assert not list(tmp_path.iterdir())


def test_the_compose_test_without_docker_is_one_line(tmp_path: Path) -> None:
    message = one_line(run("-m", "deploy.check", PATH=str(tmp_path)))
    assert message == "compose-test: docker: is not installed; this check needs Docker with compose v2"


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_the_compose_test_without_an_engine_is_one_line(tmp_path: Path) -> None:
    message = one_line(run("-m", "deploy.check", DOCKER_HOST=f"unix://{tmp_path}/absent.sock"))
    assert message.startswith("compose-test: docker version: ")
