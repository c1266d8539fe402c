"""`resnet-bench load` as a process, against a real server."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from serving import RunningServer
from tools import needs_h2load

BRIEF = ["--duration", "0.3", "--warm-up", "0.1", "--allow-disturbed"]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "resnet_bench", "load", *arguments], capture_output=True, text=True, timeout=100, check=False
    )


@pytest.mark.parametrize("inputs", [[], ["--input", "image:UINT8:-1,32,32,3"]])
def test_an_open_loop_tells_all_outcomes(server: RunningServer, inputs: list[str]) -> None:
    arguments = ["--url", server.url, "--model", "resnet20", "--rate", "50", "--arrivals", "constant", "--rows", "2", "--slo", "30s"]
    result = run(*arguments, *BRIEF, *inputs, "--json")
    assert result.returncode == 0, result.stderr
    (figures,) = json.loads(result.stdout)
    assert figures["outcomes"] == {"OK": figures["calls"]}
    assert figures["calls"] == pytest.approx(15, abs=1)
    assert figures["goodput"] == 1
    assert 0 < figures["latency_ms"]["p50"] <= figures["latency_ms"]["max"]


def test_a_closed_loop_is_shown_as_a_table(server: RunningServer) -> None:
    result = run("--url", server.url, "--model", "resnet20", "--concurrency", "2", "--generators", "2", *BRIEF)
    assert result.returncode == 0, result.stderr
    assert "2 in flight" in result.stdout
    assert "rows/s" in result.stdout


def test_a_run_that_does_not_count_says_so(server: RunningServer) -> None:
    result = run("--url", server.url, "--model", "resnet20", "--rate", "50000", "--duration", "0.1", "--warm-up", "0.01", "--slo", "10ms")
    assert result.returncode == 1
    assert "void: the generator" in result.stderr
    assert "0 of 2 runs: the generator" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--url", "127.0.0.1:1", "--rate", "1"], "url: no server answers at 127.0.0.1:1 (UNAVAILABLE)"),
        (["--url", "{url}", "--rate", "1", "--model", "x"], "models: x not served; the server has resnet20"),
        (["--rate", "1"], "give --url or --repository"),
        (["--url", "{url}", "--overload", "3", "--rate", "1"], "give one of --rate, --overload and --soak"),
        (["--url", "{url}", "--overload", "0.5"], "0.5 is not in the range x>1"),
        (["--url", "{url}", "--soak", "soon"], "'soon'; expected a duration such as 50ms or 2s"),
        (["--url", "{url}", "--rate", "1", "--driver", "h2load"], "--driver h2load sends at a constant rate; give --arrivals constant"),
        (["--url", "{url}", "--soak", "10", "--driver", "h2load"], "--driver h2load sends one body again and again"),
        (["--url", "{url}"], "give --rate (open loop) or --concurrency (closed loop), one of the two; or --overload, or --soak"),
        (
            ["--url", "{url}", "--rate", "1", "--concurrency", "1"],
            "give --rate (open loop) or --concurrency (closed loop), one of the two; or --overload, or --soak",
        ),
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


def test_overload_is_sent_beyond_the_capacity_and_refused_in_time(repository: Path, tmp_path: Path) -> None:
    """Large calls, so that the generator can send three times what the server bears; what it cannot answer in time it refuses."""
    options = ["--rows", "64", "--overload", "3", "--concurrency", "8", "--slo", "3s", "--duration", "3s", "--warm-up", "0.5s"]
    server = ["--server-options", "--engines 1 --threads 1"]
    result = run("--repository", str(repository), "--model", "resnet20", *options, *server, "--allow-disturbed", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    last = {sample["kind"]: sample for sample in json.loads((tmp_path / "results.json").read_text())["samples"]}
    full, without, flood = last["capacity"], last["flood"], last["overload"]
    assert flood["rate"] == without["rate"] == pytest.approx(3 * full["answered"] / full["seconds"])
    assert flood["seed"] == without["seed"]
    assert flood["calls"] > flood["answered"] > 0
    assert set(flood["outcomes"]) > {"OK"}
    assert "goodput / capacity" in result.stdout
    assert "goodput / answers to the same flood without deadlines" in result.stdout


@needs_h2load
def test_h2load_floods_a_server_with_what_it_found_its_capacity_to_be(repository: Path, tmp_path: Path) -> None:
    options = ["--rows", "16", "--overload", "3", "--concurrency", "8", "--slo", "2s", "--duration", "3s", "--warm-up", "0.5s"]
    server = ["--driver", "h2load", "--server-options", "--engines 1 --threads 1"]
    result = run("--repository", str(repository), "--model", "resnet20", *options, *server, "--allow-disturbed", "--out", str(tmp_path))
    last = {sample["kind"]: sample for sample in json.loads((tmp_path / "results.json").read_text())["samples"]}
    full, flood = last["capacity"], last["overload"]
    assert flood["rate"] == pytest.approx(3 * full["answered"] / full["seconds"])
    assert flood["arrivals"] == "constant"
    assert set(flood["outcomes"]) >= {"OK", "REFUSED"}
    assert flood["calls"] > flood["answered"] >= flood["in_time"] > 0
    assert "goodput / capacity" in result.stdout


def test_a_soak_saves_every_reading(repository: Path, tmp_path: Path) -> None:
    result = run("--repository", str(repository), "--model", "resnet20", "--soak", "300", "--concurrency", "4", "--out", str(tmp_path))
    report = json.loads((tmp_path / "results.json").read_text())
    assert [sample["calls"] for sample in report["samples"]] == [30] * 10
    assert all("server" in sample["memory"] for sample in report["samples"])
    assert "memory grew by" in result.stdout
    assert result.returncode == (1 if report["problems"] else 0), result.stderr


def test_a_soak_that_is_ended_keeps_what_was_read(repository: Path, tmp_path: Path) -> None:
    arguments = ["--repository", str(repository), "--model", "resnet20", "--soak", "2000", "--concurrency", "2", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "resnet_bench", "load", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("resnet20 fp32 2:"):  # the first part is saved
                break
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    report = json.loads((tmp_path / "results.json").read_text())
    assert report["complete"] is False
    assert report["samples"][0]["calls"] == 200
    assert report["samples"][0]["memory"]


@needs_h2load
def test_h2load_drives_a_closed_loop_against_raws_answers(repository: Path) -> None:
    options = ["--concurrency", "4", "--driver", "h2load", *BRIEF, "--json"]
    result = run("--repository", str(repository), "--model", "resnet20", *options)
    assert result.returncode == 0, result.stderr
    (figures,) = json.loads(result.stdout)
    assert (figures["driver"], figures["outcomes"]) == ("h2load", {"OK": figures["calls"]})
    assert figures["calls"] >= 8
    assert "engine" in " ".join(figures["cpu"])
