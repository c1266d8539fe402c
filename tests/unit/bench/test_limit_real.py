"""`limit`, `soak`, `overload` and `peers` against the real server, with the real h2load where it is installed."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_bench.limit import grid
from resnet_bench.limit.command import measure
from resnet_bench.limit.grid import Budget, Work
from resnet_bench.limit.processes import Usage, usage_of
from resnet_bench.raw import RawPlan

needs_h2load = pytest.mark.skipif(shutil.which("h2load") is None, reason="h2load (Debian: nghttp2-client) is not on this machine")


def bench(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "resnet_bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=variables or None)


@needs_h2load
def test_served_and_raw_are_measured_in_turn(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "best_plan", lambda *_: RawPlan(1, 1, 8))  # its trials take seconds and are tested with `depths`
    report = measure((Work(repository, "resnet20", "fp32", ((4, 1), (2, 8))),), Budget(1, 0.4, 2))
    assert report.problems == ()
    assert [(cell.in_flight, cell.rows) for cell in report.cells] == [(4, 1), (2, 8)]
    for cell in report.cells:
        assert cell.of_raw.median == pytest.approx(cell.served.median / cell.raw.median)
        assert {"front end", "generator"} < cell.cpu_us.keys()
        assert cell.queue_ms + cell.compute_ms <= 1.5 * cell.client_ms


@needs_h2load
def test_a_soak_reads_the_memory_of_every_process(repository: Path, tmp_path: Path) -> None:
    result = bench("soak", "--repository", str(repository), "--requests", "400", "--in-flight", "4", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    data = json.loads((tmp_path / "soak.json").read_text())
    assert [reading["requests"] for reading in data["readings"]] == [40 * part for part in range(1, 11)]
    assert all("front end" in reading["resident_bytes"] for reading in data["readings"])
    assert "growth from 40 to 400 requests" in (tmp_path / "soak.md").read_text()


@needs_h2load
def test_overload_is_measured_against_the_capacity(repository: Path, tmp_path: Path) -> None:
    options = ["--model", "resnet20", "--rows", "32", "--deadline", "2s", "--duration", "0.5", "--repeats", "1", "--factor", "0.5"]
    result = bench("overload", "--repository", str(repository), *options, "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    (run,) = json.loads((tmp_path / "overload.json").read_text())["runs"]
    assert run["offered"] == pytest.approx(0.5 * run["capacity"])
    assert run["outcomes"]["OK"] > 0


@needs_h2load
def test_an_interrupt_saves_what_was_measured_and_leaves_no_process(repository: Path, tmp_path: Path) -> None:
    load = ["--in-flight", "1", "--rows", "1", "--duration", "1", "--repeats", "60"]
    options = ["--repository", str(repository), *load, "--out", str(tmp_path)]
    command = [sys.executable, "-m", "resnet_bench", "limit", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        family: dict[int, Usage] = {}
        while "h2load" not in map(name_of, family):
            family = usage_of(process.pid)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "interrupted: what was measured is shown and saved" in errors
    assert json.loads((tmp_path / "limit.json").read_text())["complete"] is False
    while any(usage_of(pid) for pid in family):  # Python's own resource tracker ends a moment later; the time limit ends this
        pass


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:  # it ended meanwhile
        return ""


@needs_h2load
def test_peers_that_are_not_installed_are_one_line(repository: Path, tmp_path: Path) -> None:
    options = ["--models", "resnet20", "--peers", "triton", "--environments", str(tmp_path), "--no-install"]
    result = bench("peers", "--repository", str(repository), *options)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()[-1:]
    assert line.startswith("Error: peers: none could be measured: triton: no environment in ")


def test_a_missing_h2load_is_one_line(repository: Path, tmp_path: Path) -> None:
    for command in ("limit", "soak", "overload", "peers"):
        result = bench(command, "--repository", str(repository), PATH=str(tmp_path), HOME=str(tmp_path))
        assert result.returncode == 1
        assert (
            result.stderr
            == "Error: h2load: not found on this machine; install the package nghttp2-client (apt-get install nghttp2-client)\n"
        )


@needs_h2load
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["limit", "--models", "resnet99"], "models: 'resnet99' is not published in "),
        (["limit", "--precision", "int8"], "precision: resnet20 is not published in int8; it has fp32"),
        (["limit", "--in-flight", "0"], "'0'; expected positive whole numbers separated by commas"),
        (["limit", "--random-weights", "x"], "--random-weights: only --preset targets uses it; expected both"),
        (["soak", "--requests", "100"], "requests: 100; expected at least 640 for 64 in flight"),
        (["overload", "--deadline", "soon"], "'soon'; expected a duration such as 50ms or 2s"),
        (["overload"], "models: 'resnet56' is not published in "),
        (["peers", "--peers", "ours,torchserve"], "'torchserve'; expected some of ours, triton, "),
        (["peers", "--models", "resnet20", "--precision", "fp16"], "precision: resnet20 is not published in fp16; it has fp32"),
    ],
)
def test_bad_input_is_one_line(repository: Path, arguments: list[str], expected: str) -> None:
    result = bench(*arguments, "--repository", str(repository))
    assert result.returncode in (1, 2)
    assert expected in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
