"""`resnet-client` and `resnet-bench` as processes, against a real server."""

import json
import signal
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
        (["classify", "{readme}", "--url", "{url}"], "INVALID_ARGUMENT: images[0]: "),
    ],
)
def test_a_failed_call_is_one_line_and_status_1(arguments: list[str], message: str, server: RunningServer, photographs: Path) -> None:
    text = photographs / "readme.txt"
    text.write_text("not an image")
    values = {"photo": str(photographs / "0.png"), "readme": str(text), "url": server.url}
    result = run("resnet_client", *(argument.format(**values) for argument in arguments), check=False)
    assert result.returncode == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_depths_measures_a_repository_and_saves_what_it_found(repository: Path, tmp_path: Path) -> None:
    options = ["--duration", "0.3", "--repeats", "2", "--concurrency", "2", "--rows", "1,4", "--out", str(tmp_path / "out")]
    output = run("resnet_bench", "depths", "--repository", str(repository), *options).stdout
    assert "resnet20" in output
    report = json.loads((tmp_path / "out" / "results.json").read_text())
    (model,) = report["models"]
    assert report["complete"] is True
    assert (model["facts"]["depth"], model["facts"]["parameters"]) == (20, 269_722)
    assert model["raw_throughput"]["median"] > 0
    assert [(cell["concurrency"], cell["rows"]) for cell in model["cells"]] == [(2, 1), (2, 4)]
    for cell in model["cells"]:
        assert cell["throughput"]["low"] <= cell["throughput"]["median"] <= cell["throughput"]["high"]
        assert 0 < cell["p50_ms"]["median"] <= cell["p99_ms"]["median"]
        assert cell["cpu_seconds"]["median"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --repository, --url or both"),
        (["--repository", "nowhere"], "repository: nowhere is not a folder"),
        (["--url", "127.0.0.1:1"], "url: no resnet-server answers at 127.0.0.1:1"),
        (["--url", "{url}", "--models", "resnet9"], "models: resnet9 not served; the server has resnet20"),
        (["--url", "{url}", "--rows", "0"], "'0'; expected positive whole numbers"),
    ],
)
def test_what_cannot_be_measured_is_said(arguments: list[str], message: str, server: RunningServer) -> None:
    result = run("resnet_bench", "depths", *(argument.format(url=server.url) for argument in arguments), check=False)
    assert result.returncode != 0
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupted_benchmark_saves_what_it_measured(server: RunningServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--duration", "0.2", "--repeats", "1000", "--concurrency", "1", "--rows", "1", "--out", str(out)]
    command = [sys.executable, "-m", "resnet_bench", "depths", "--url", server.url, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(6)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted" in stdout
    assert json.loads((out / "results.json").read_text())["complete"] is False
