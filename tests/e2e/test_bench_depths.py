"""`resnet-bench depths` as a process, with real servers."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from serving import RunningServer, running_server

BRIEF = ["--duration", "0.2", "--repeats", "1", "--confirm", "0.2s", "--allow-disturbed"]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "resnet_bench", "depths", *arguments]


def run(*arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    result = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=280, check=False)
    if check:
        assert result.returncode == 0, result.stderr
    return result


def saved(folder: Path) -> Any:
    return json.loads((folder / "results.json").read_text())


def of_kind(report: Any, kind: str) -> list[Any]:
    return [sample for sample in report["samples"] if sample["kind"] == kind]


def test_a_repository_is_searched_for_its_capacity(repository: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    output = run("--repository", str(repository), *BRIEF, "--slo", "5s", "--out", str(out)).stdout
    assert "resnet20" in output
    report = saved(out)
    (facts,) = report["models"]
    assert report["complete"] is True
    assert report["machine"]["revision"]
    assert (facts["depth"], facts["parameters"], facts["trained"]) == (20, 269_722, True)
    assert facts["accuracy"] > 90
    assert "engines x" in facts["plan"]
    assert len(facts["certificate_id"]) == 64
    (search,) = report["searches"]
    assert 0 < search["confirmed"] <= search["found"]
    assert {"raw", "single", "saturation", "probe", "confirm", "half", "high"} <= {sample["kind"] for sample in report["samples"]}
    assert of_kind(report, "half")[0]["rate"] == pytest.approx(0.5 * search["confirmed"])
    assert of_kind(report, "high")[0]["rate"] == pytest.approx(0.8 * search["confirmed"])
    for sample in (sample for sample in report["samples"] if sample["kind"] != "raw"):
        assert sample["outcomes"]["OK"] > 0
        assert sum(sample["memory"].values()) > 50 * 2**20
        if sample["answered"]:  # of a rate far above the capacity, a busy machine answers nothing in so short a time
            assert {name.split()[0] for name in sample["cpu"]} - {"decoder"} == {"server", "engine", "generator"}
        assert sample["server"]["total_ms"] > 0
        assert sum(sample["server"]["batch_rows"].values()) > 0
    with (out / "results.csv").open() as file:
        assert [row["kind"] for row in csv.DictReader(file)] == [sample["kind"] for sample in report["samples"]]
    assert (out / "report.html").read_text().count("<svg") >= 6


def test_closed_loops_are_measured_where_asked_for(repository: Path, tmp_path: Path) -> None:
    loads = ["--concurrency", "2", "--rows", "1,4", "--server-options", "--engines 1 --threads 1"]
    output = run("--repository", str(repository), "--models", "resnet20", *BRIEF, *loads, "--out", str(tmp_path)).stdout
    assert "2 in flight, 4 rows" in output
    report = saved(tmp_path)
    assert report["models"][0]["plan"].startswith("1 engines x 1 threads")
    assert report["searches"] == []
    assert [(cell["concurrency"], cell["rows"]) for cell in of_kind(report, "closed")] == [(2, 1), (2, 4)]


def test_a_running_server_is_measured_at_given_rates(server: RunningServer, tmp_path: Path) -> None:
    where = ["--url", server.url, "--metrics-url", server.metrics_url]
    run(*where, *BRIEF, "--rates", "400,800", "--arrivals", "constant", "--slo", "30s", "--out", str(tmp_path))
    report = saved(tmp_path)
    rates = of_kind(report, "rate")
    assert [sample["rate"] for sample in rates] == [400, 800]
    assert all(sample["arrivals"] == "constant" and sample["server"] and sample["cpu"] == sample["memory"] == {} for sample in rates)
    assert of_kind(report, "raw") == []


def test_each_repeat_has_its_own_arrivals(server: RunningServer, tmp_path: Path) -> None:
    options = ["--rates", "500", "--slo", "30s", "--seeds", "2", "--duration", "0.2", "--repeats", "2", "--allow-disturbed"]
    run("--url", server.url, *options, "--out", str(tmp_path))
    rates = of_kind(saved(tmp_path), "rate")
    assert [(sample["repeat"], sample["seed"]) for sample in rates] == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert len({sample["order"] for sample in rates}) == 4


def test_random_weights_are_published_and_marked_untrained(tmp_path: Path) -> None:
    output = run("--random-weights", "20", *BRIEF, "--concurrency", "1", "--out", str(tmp_path)).stdout
    assert "resnet20 (untrained)" in output
    (facts,) = saved(tmp_path)["models"]
    assert (facts["trained"], facts["accuracy"]) == (False, None)
    assert "untrained" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --repository, --random-weights or --url"),
        (["--repository", "nowhere"], "repository: nowhere is not a folder"),
        (["--repository", "{empty}"], "holds no models"),
        (["--repository", "{repository}", "--models", "resnet9"], "models: resnet9 not in"),
        (["--repository", "{repository}", "--server-options", "--grpc-port {port}"], "grpc-port: 127.0.0.1:{port} cannot be opened"),
        (["--repository", "{repository}", "--precision", "fp8"], "'fp8'; expected some of auto, fp32"),
        (["--random-weights", "resnet9"], "random-weights: resnet9 cannot be published: "),
        (["--random-weights", "18", "--url", "{url}"], "--random-weights starts its own servers"),
        (["--url", "127.0.0.1:1"], "url: no server answers at 127.0.0.1:1"),
        (["--url", "{url}", "--models", "resnet9"], "models: resnet9 not served; the server has resnet20"),
        (["--url", "{url}", "--metrics-url", "http://127.0.0.1:1/metrics"], "metrics-url: http://127.0.0.1:1/metrics cannot be read"),
        (["--url", "{url}", "--rows", "0"], "'0'; expected positive whole numbers"),
        (["--url", "{url}", "--rates", "-1"], "'-1'; expected calls a second, above 0"),
        (["--url", "{url}", "--slo", "fast"], "'fast'; expected a duration such as 50ms or 2s"),
        (["--url", "{url}", "--rows", "1,2"], "several --rows need --rates or --concurrency"),
        (["--url", "{url}", "--rates", "1", "--concurrency", "1"], "give --rates (open loop) or --concurrency (closed loop), not both"),
        (["--url", "{url}", *BRIEF, "--slo", "0.001ms"], "slo: no model meets 0.001 ms at any rate; resnet20: a call alone takes"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], message: str, server: RunningServer, repository: Path, tmp_path: Path
) -> None:
    values = {"url": server.url, "port": server.url.rpartition(":")[2], "repository": str(repository), "empty": str(tmp_path)}
    result = run(*(argument.format(**values) for argument in arguments), check=False)
    assert result.returncode in (1, 2)
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert message.format(**values) in line
    assert "Traceback" not in result.stderr


def test_an_interrupted_benchmark_saves_what_it_measured(server: RunningServer, tmp_path: Path) -> None:
    options = ["--duration", "0.2", "--repeats", "1000", "--concurrency", "1", "--allow-disturbed", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command("--url", server.url, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("resnet20 fp32 2:"):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "interrupted: what was measured is shown and saved" in stderr
    report = saved(tmp_path)
    assert report["complete"] is False
    assert report["samples"]
    assert "Incomplete" in (tmp_path / "report.html").read_text()


def test_a_server_that_dies_ends_the_benchmark_and_what_was_measured_is_saved(repository: Path, tmp_path: Path) -> None:
    options = ["--duration", "0.2", "--repeats", "1000", "--concurrency", "1", "--allow-disturbed", "--out", str(tmp_path / "out")]
    with running_server(repository, tmp_path / "log") as server:
        arguments = command("--url", server.url, *options)
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("resnet20 fp32 2:"):
                break
        server.process.kill()
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 1
    assert stderr.splitlines()[-1].startswith(("Error: resnet20: the server became unreachable", "Error: url: no server answers"))
    assert saved(tmp_path / "out")["complete"] is False
