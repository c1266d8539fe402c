"""`resnet-server demo`: the released networks, served and asked, without PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest
from resnet_networks import REPOSITORY
from resnet_proto.manifest import check_artifact, read_manifest, sha256_file
from resnet_server.demo import bundled_repository
from resnet_server.errors import StartError

ROOT = Path(__file__).parents[2]
VERSIONS = sorted(REPOSITORY.glob("*/1"))
FREE = ("--grpc-port", "0", "--http-port", "0", "--metrics-port", "0")
ABSENT = ("torch", "onnx", "resnet_models", "resnet_export")
TORCHLESS = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); from resnet_server.cli import main; main()"


def demo(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command in a Python where torch, onnx and our packages on them cannot be imported."""
    command = [sys.executable, "-c", TORCHLESS, "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_demo_serves_classifies_and_stops_without_torch() -> None:
    result = demo("--models", "resnet20", "--stop", *FREE)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "10 of 10 right" in result.stdout
    assert f"resnet-server serve --repository {REPOSITORY} --models resnet20" in result.stdout


def test_a_model_that_is_not_there_is_one_line() -> None:
    result = demo("--models", "resnet9", "--stop", *FREE)
    assert result.returncode == 1
    assert (
        result.stderr.strip()
        == f"Error: models: resnet9 not in {REPOSITORY}; it holds {', '.join(sorted(path.parent.name for path in VERSIONS))}"
    )


def test_without_the_networks_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resnet_networks", None)
    with pytest.raises(StartError, match="pip install resnet-serving-networks, or give --repository"):
        bundled_repository()


def test_the_residual_networks_are_released() -> None:
    assert [path.parent.name for path in VERSIONS] == ["resnet20", "resnet32", "resnet44", "resnet56", "smallresnet"]


@pytest.mark.parametrize("version", VERSIONS, ids=lambda path: path.parent.name)
def test_a_released_network_holds_and_comes_from_the_bundled_checkpoint(version: Path) -> None:
    manifest = read_manifest(version)
    for artifact in manifest.artifacts:
        check_artifact(version, manifest, artifact, allow_uncertified=False)
        assert artifact.certificate.images >= 9_980, "certified on all test images, not on the bundled sample"
    checkpoint = ROOT / "models" / "resnet_models" / "pretrained" / f"{version.parent.name}.safetensors"
    assert manifest.source.checkpoint_sha256 == sha256_file(checkpoint), "make release-repository DATA=..."
