"""`resnet-client` as a process, against a real server."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from resnet_models.sample import load_sample
from serving import RunningServer


def run(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=120, check=check)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(load_sample().images[index]).save(folder / f"{index}.png")
    return folder


def test_classify_prints_a_line_an_image(server: RunningServer, photographs: Path) -> None:
    output = run("resnet_client", "classify", str(photographs), "--url", server.url).stdout
    assert all(f"{index}.png" in output for index in range(3))
    assert "resnet20 version 1, fp32 on CPUExecutionProvider, batch of " in output


def test_classify_gives_json_to_programs(server: RunningServer, photographs: Path) -> None:
    output = run("resnet_client", "classify", str(photographs / "0.png"), "--url", server.url, "--json", "--top-k", "2").stdout
    (answer,) = json.loads(output)
    assert answer["image"].endswith("0.png")
    assert answer["labels"][0]["name"] == "cat"
    assert len(answer["labels"]) == 2


def test_models_lists_what_is_served(server: RunningServer) -> None:
    (model,) = json.loads(run("resnet_client", "models", "--url", server.url, "--json").stdout)
    assert (model["name"], model["ready"], model["parameters"], model["agreement"]) == ("resnet20", True, 269_722, 1.0)
    assert "resnet20" in run("resnet_client", "models", "--url", server.url).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "{photo}", "--url", "127.0.0.1:1"], "no server answers at 127.0.0.1:1"),
        (["classify", "{photo}", "--url", "{url}", "--model", "x"], "NOT_FOUND: model_name: 'x' is unknown"),
        (["classify", "{readme}", "--url", "{url}"], "INVALID_ARGUMENT: images[0] ({readme}): 12 bytes cannot be decoded"),
    ],
)
def test_a_failed_call_is_one_line_and_status_1(arguments: list[str], message: str, server: RunningServer, photographs: Path) -> None:
    text = photographs / "readme.txt"
    text.write_text("not an image")
    values = {"photo": str(photographs / "0.png"), "readme": str(text), "url": server.url}
    result = run("resnet_client", *(argument.format(**values) for argument in arguments), check=False)
    assert result.returncode == 1
    assert message.format(**values) in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
