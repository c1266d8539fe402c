"""`resnet-bench peers` as a process: ours and raw ONNX Runtime with the real h2load; the other servers are not installed here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tools import needs_h2load


def bench(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "resnet_bench", "peers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables or None)


@needs_h2load
def test_ours_and_raw_are_measured_and_a_missing_peer_is_named(repository: Path, tmp_path: Path) -> None:
    loads = ["--in-flight", "4", "--rows", "1,8", "--duration", "0.5s", "--repeats", "1", "--allow-disturbed"]
    options = ["--peers", "ours,raw,triton", "--environments", str(tmp_path / "none"), "--no-install", "--out", str(tmp_path)]
    result = bench("--repository", str(repository), "--models", "resnet20", *loads, *options)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "results.json").read_text())
    closed = [sample for sample in report["samples"] if sample["kind"] == "closed"]
    assert {(sample["concurrency"], sample["rows"]) for sample in closed} == {(4, 1), (4, 8)}
    assert all(sample["target"] == "ours" and "engine" in " ".join(sample["cpu"]) for sample in closed)
    (raw,) = [sample for sample in report["samples"] if sample["kind"] == "raw"]
    assert raw["setup"] == report["models"][0]["raw_plan"]
    assert raw["answered"] > 0
    assert any(problem.startswith("triton: no environment in ") for problem in report["problems"])
    table = (tmp_path / "peers.md").read_text()
    assert table.count("| resnet20 fp32 | 4 |") == 4
    assert "raw ONNX Runtime" in table


@needs_h2load
def test_peers_that_are_not_installed_are_one_line(repository: Path, tmp_path: Path) -> None:
    options = ["--models", "resnet20", "--peers", "triton", "--environments", str(tmp_path), "--no-install"]
    result = bench("--repository", str(repository), *options)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()[-1:]
    assert line.startswith("Error: peers: none could be measured: triton: no environment in ")


def test_a_missing_h2load_is_one_line(repository: Path, tmp_path: Path) -> None:
    result = bench("--repository", str(repository), PATH=str(tmp_path), HOME=str(tmp_path))
    assert result.returncode == 1
    expected = "h2load: not found on this machine; install the package nghttp2-client (apt-get install nghttp2-client)"
    assert result.stderr == f"Error: {expected}\n"


@needs_h2load
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--models", "resnet99"], "models: resnet99 not in "),
        (["--precision", "int8"], "precision: resnet20 is not published in int8; it has fp32"),
        (["--in-flight", "0"], "'0'; expected positive whole numbers, separated by commas"),
        (["--shares", "none"], "'none'; expected shares above 0"),
        (["--peers", "ours,torchserve"], "'torchserve'; expected some of ours, raw, triton, "),
    ],
)
def test_bad_input_is_one_line(repository: Path, arguments: list[str], expected: str) -> None:
    result = bench(*arguments, "--repository", str(repository))
    assert result.returncode in (1, 2)
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
