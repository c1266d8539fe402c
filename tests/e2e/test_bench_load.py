"""`resnet-bench load` as a process, against a real server."""

import json
import subprocess
import sys

import pytest
from serving import RunningServer

BRIEF = ["--duration", "0.3", "--warm-up", "0.1"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "resnet_bench", "load", *arguments], capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("inputs", [[], ["--input", "image:UINT8:-1,32,32,3"]])
def test_an_open_loop_tells_all_outcomes(server: RunningServer, inputs: list[str]) -> None:
    arguments = ["--url", server.url, "--model", "resnet20", "--rate", "50", "--arrivals", "constant", "--rows", "2", "--slo", "10s"]
    result = run(*arguments, *BRIEF, *inputs, "--json")
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert figures["outcomes"] == {"OK": figures["calls"]}
    assert figures["calls"] == pytest.approx(15, abs=1)
    assert figures["goodput"] == 1
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["p100"]


def test_a_closed_loop_is_shown_as_a_table(server: RunningServer) -> None:
    result = run("--url", server.url, "--model", "resnet20", "--concurrency", "2", "--generators", "2", *BRIEF)
    assert result.returncode == 0, result.stderr
    assert "2 in flight, 1 rows" in result.stdout
    assert "rows/s" in result.stdout


def test_a_run_that_does_not_count_says_so(server: RunningServer) -> None:
    result = run("--url", server.url, "--model", "resnet20", "--rate", "200000", "--duration", "0.1", "--warm-up", "0.01", "--slo", "10ms")
    assert result.returncode == 1
    assert "Error: void: the generator" in result.stderr
    assert "no: the generator" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "127.0.0.1:1", "--rate", "1"], "url: no server answers at 127.0.0.1:1 (UNAVAILABLE)"),
        (["--url", "{url}", "--rate", "1", "--model", "x"], "model: 'x' is not served at {url}: NOT_FOUND: "),
        (["--url", "{url}"], "give --rate (open loop) or --concurrency (closed loop), one of the two"),
        (["--url", "{url}", "--rate", "1", "--concurrency", "1"], "give --rate (open loop) or --concurrency (closed loop), one of the two"),
        (["--url", "{url}", "--concurrency", "1", "--generators", "2"], "generators: 2 for 1 calls in flight; expected at most as many"),
        (["--url", "{url}", "--rate", "1", "--input", "image"], "'image'; expected NAME:DATATYPE:SHAPE such as"),
        (["--url", "{url}", "--rate", "50", *BRIEF, "--input", "x:UINT8:-1,32,32,3"], "the server refuses the call: INVALID_ARGUMENT: "),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: list[str], message: str, server: RunningServer) -> None:
    result = run("--model", "resnet20", *(argument.format(url=server.url) for argument in arguments))
    assert result.returncode in (1, 2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert message.format(url=server.url) in line
    assert "Traceback" not in result.stderr
