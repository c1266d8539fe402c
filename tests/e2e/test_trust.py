"""What an operator may demand of published versions: policies of the release, and a signature."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from resnet_client import Client
from resnet_export.cli import main
from serving import running_server

pytest.importorskip("model_signing")
from signing import make_keys  # needs what model-signing brings


def refused(repository: Path, *options: str) -> str:
    """What a server says that serves nothing."""
    command = [sys.executable, "-m", "resnet_server", "serve", "--repository", str(repository), "--grpc-port", "0", "--metrics-port", "0"]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    return result.stderr


@pytest.fixture
def signed(pretrained: Path, tmp_path: Path) -> Path:
    """A repository whose publisher signed, with the public key beside it."""
    keys = make_keys(tmp_path)
    options = ["--repository", str(tmp_path / "r"), "--precision", "fp32", "--no-profile", "--sign", str(keys.private)]
    result = CliRunner().invoke(main, ["publish", str(pretrained), *options])
    assert result.exit_code == 0, result.output
    return tmp_path / "r"


def test_a_signature_is_demanded_and_checked(signed: Path, tmp_path: Path) -> None:
    key = str(tmp_path / "public.pem")
    assert CliRunner().invoke(main, ["verify", str(signed / "resnet20" / "1"), "--signature", key]).exit_code == 0
    with running_server(signed, tmp_path / "log", "--require-signature", key) as server, Client(server.url) as client:
        assert client.models()[0].ready
    (signed / "resnet20" / "1" / "labels.txt").write_text("altered\n")
    assert "model.sig: is no signature of these files by" in refused(signed, "--require-signature", key)
    assert "is not a file" in refused(signed, "--require-signature", str(tmp_path / "nowhere"))


def test_a_required_policy_takes_what_holds_it_and_refuses_the_rest(precise_repository: Path, tmp_path: Path) -> None:
    with running_server(precise_repository, tmp_path / "log", "--require-policy", "strict") as server, Client(server.url) as client:
        assert client.models()[0].precision == "fp32"
        assert "int8 has none of the required policies strict" in server.log.read_text()
    assert "require-policy: none; expected some of strict, fp16, int8" in refused(precise_repository, "--require-policy", "none")
