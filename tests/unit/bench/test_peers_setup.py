"""What `peers` puts before other servers is valid, their processes come and go whole, and the best configuration of each counts."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import psutil
import pytest
from numpy.typing import NDArray
from resnet_bench.peers.contender import Contender, Layout, Setting, running
from resnet_bench.peers.environment import MARKER, Environment, PeerMissingError
from resnet_bench.peers.lineup import Lineup, contenders, family
from resnet_bench.peers.measurement import best_cells, in_turn
from resnet_bench.peers.mlserver import write_folder
from resnet_bench.peers.standings import HEADER, ratios, standings
from resnet_bench.peers.triton import NAME, write_repository
from resnet_bench.published import find
from resnet_bench.results import Cell, Report
from resnet_bench.sample import Sample
from resnet_bench.target import Target, free_port

NARROW, SPINNING = Layout(2, 1, False), Layout(1, 2, True)


def setting(repository: Path, folder: Path) -> Setting:
    return Setting(find(repository, "resnet20", "fp32"), folder, folder / "environments", False, 2, 64, 512)


# In a process of its own: Triton's messages have the names of ours.
READ_CONFIG = """\
import sys
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2
print(json_format.MessageToJson(text_format.Parse(sys.stdin.read(), model_config_pb2.ModelConfig())))
"""


def read_config(models: Path) -> Any:
    text = (models / "resnet20" / "config.pbtxt").read_text()
    return json.loads(subprocess.run([sys.executable, "-c", READ_CONFIG], input=text, stdout=subprocess.PIPE, text=True, check=True).stdout)


def test_tritons_configuration_is_valid_and_batches_without_delay(repository: Path, tmp_path: Path) -> None:
    config = read_config(write_repository(tmp_path, setting(repository, tmp_path), NARROW))
    assert (config["name"], config["backend"], config["maxBatchSize"]) == ("resnet20", "python", 64)
    assert config["input"] == [{"name": "image", "dataType": "TYPE_UINT8", "dims": ["32", "32", "3"]}]
    assert config["output"] == [{"name": "logits", "dataType": "TYPE_FP32", "dims": ["10"]}]
    assert config["instanceGroup"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert config["dynamicBatching"] == {}  # no delay, no preferred size
    assert config["parameters"] == {"threads": {"stringValue": "1"}, "spinning": {"stringValue": "0"}}


def test_triton_has_one_instance_of_spinning_threads_where_that_is_asked_for(repository: Path, tmp_path: Path) -> None:
    config = read_config(write_repository(tmp_path, setting(repository, tmp_path), SPINNING))
    assert config["instanceGroup"] == [{"count": 1, "kind": "KIND_CPU"}]
    assert config["parameters"] == {"threads": {"stringValue": "2"}, "spinning": {"stringValue": "1"}}


class Tensor:
    def __init__(self, name: str, data: NDArray[Any]) -> None:
        self.name = name
        self.data = data

    def as_numpy(self) -> NDArray[Any]:
        return self.data


class Triton(ModuleType):
    """As much of triton_python_backend_utils as a model uses."""

    InferenceResponse = list

    def __init__(self) -> None:
        super().__init__("triton_python_backend_utils")
        self.Tensor = Tensor

    @staticmethod
    def get_input_tensor_by_name(request: dict[str, Any], name: str) -> Any:
        return request[name]


def load_model(models: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    path = models / "resnet20" / "1" / "model.py"
    monkeypatch.syspath_prepend(path.parent)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", Triton())
    monkeypatch.delitem(sys.modules, "ort_session", raising=False)
    spec = importlib.util.spec_from_file_location("model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TritonPythonModel()


needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="OpenVINO is not installed")


@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize("rows", [[1], [3, 1, 4], [8, 8, 1]])
def test_tritons_model_answers_each_request_with_its_own_rows(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[int], runtime: str
) -> None:
    monkeypatch.setenv("RESNET_BENCH_RUNTIME", runtime)
    one = setting(repository, tmp_path)
    model = load_model(write_repository(tmp_path, one, NARROW), monkeypatch)
    model.initialize({"model_config": '{"parameters": {"threads": {"string_value": "1"}, "spinning": {"string_value": "0"}}}'})
    batches = [one.published.material.window(index * 8, count).images for index, count in enumerate(rows)]
    responses = model.execute([{"image": Tensor("image", images)} for images in batches])
    session = onnxruntime.InferenceSession(str(one.published.path), providers=["CPUExecutionProvider"])
    for images, response in zip(batches, responses, strict=True):
        (tensor,) = response
        np.testing.assert_allclose(tensor.data, session.run(None, {"image": images})[0], atol=1e-3)
    monkeypatch.delitem(sys.modules, "ort_session")


def test_mlserver_is_told_file_ports_and_batching(repository: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "mlserver", setting(repository, tmp_path), SPINNING, (1, 2, 3))
    model = (tmp_path / "mlserver" / "model-settings.json").read_text()
    assert '"max_batch_size": 64' in model
    assert "model.fp32.onnx" in model
    assert '"threads": 2, "spinning": true' in model
    assert '"grpc_port": 2' in (tmp_path / "mlserver" / "settings.json").read_text()
    assert (tmp_path / "mlserver" / "mlserver_runtime.py").is_file()


def test_each_runtime_has_an_environment_of_its_own(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_bench.peers.contender.version", lambda name: "2026.4.1")
    one = setting(repository, tmp_path)
    other = replace(one, runtime="openvino")
    assert one.environment("triton", ("a==1",)) == Environment(tmp_path / "environments", "triton", ("a==1",))
    assert other.environment("triton", ("a==1",)) == Environment(
        tmp_path / "environments", "triton-openvino", ("a==1", "openvino==2026.4.1")
    )
    assert (one.named, other.named, other.variables) == ("", ", openvino", {"RESNET_BENCH_RUNTIME": "openvino"})
    with pytest.raises(PeerMissingError, match="triton: made-up is not installed here"):
        monkeypatch.undo()
        replace(one, runtime="made-up").environment("triton", ())


def test_an_absent_environment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError, match=r"triton: no environment in .*; run again without --no-install to make it"):
        Environment(tmp_path, "triton", ("nvidia-pytriton==0.7.0",)).ensure(install=False)


def test_an_environment_that_cannot_be_made_says_why_and_is_not_taken_for_one(tmp_path: Path) -> None:
    environment = Environment(tmp_path, "odd", ("no such requirement",))
    with pytest.raises(PeerMissingError, match=r"odd: cannot be installed on Python .*: ERROR: Invalid requirement"):
        environment.ensure(install=True)
    assert not (environment.path / MARKER).exists()


@contextmanager
def web(setting: Setting, name: str) -> Iterator[Target]:
    """A web server as a contender."""
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with running(name, command, f"http://127.0.0.1:{port}/", setting.folder, {}) as pid:
        yield Target(name, f"127.0.0.1:{port}", pid)


def stopped(target: Target) -> bool:
    """Whether its process is stopped now; the kernel says so as soon as the signal is delivered, and waits for it here."""
    assert target.pid is not None
    state: str = psutil.Process(target.pid).status()
    return state == psutil.STATUS_STOPPED


def lineup(folder: Path, repository: Path, alone: bool) -> Lineup:
    both = [Contender(name, "as it is", partial(web, name=name)) for name in ("ours", "peer")]
    return Lineup(both, setting(repository, folder), alone)


def awaited(check: Callable[[], bool]) -> bool:
    """Whether it becomes true; the test's time limit ends the wait."""
    while not check():
        os.sched_yield()
    return True


def test_all_but_the_measured_server_are_stopped_ours_like_the_others(repository: Path, tmp_path: Path) -> None:
    with lineup(tmp_path, repository, alone=False) as found:
        ours, peer = found.contenders
        with found.serving(ours) as mine:
            assert mine is not None
            with found.serving(peer) as other:
                assert other is not None
                assert awaited(lambda: not stopped(other))
            assert awaited(lambda: stopped(other))
            assert awaited(lambda: not stopped(mine))
        assert awaited(lambda: stopped(mine))
        pids = family(mine) + family(other)
    assert len(pids) == 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_one_at_a_time_only_the_measured_server_is_there(repository: Path, tmp_path: Path) -> None:
    with lineup(tmp_path, repository, alone=True) as found:
        for contender in found.contenders:
            with found.serving(contender) as target:
                assert target is not None
                assert len(family(target)) == 1
            assert family(target) == []


def test_a_peer_that_cannot_run_is_missing_and_the_rest_goes_on(repository: Path, tmp_path: Path) -> None:
    both = contenders(("mlserver", "litserve"), 2)
    for alone in (False, True):
        with Lineup(both, setting(repository, tmp_path), alone) as found:
            with found.serving(both[0]) as target:
                assert target is None
            assert found.missing["mlserver"].startswith("mlserver: no environment in ")


def test_every_rival_has_narrow_wide_and_spinning_layouts() -> None:
    found = [(contender.name, contender.setup) for contender in contenders(("ours", "raw", "triton"), 2)]
    assert found == [
        ("ours", "as it starts by default"),
        ("triton", "2 x 1 thread"),
        ("triton", "1 x 2 threads"),
        ("triton", "1 x 2 threads, spinning"),
    ]


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('loading'); raise SystemExit('error: no such model')"]
    with (
        pytest.raises(PeerMissingError, match="web: it does not start: error: no such model"),
        running("web", command, "http://127.0.0.1:1/", tmp_path, {}),
    ):
        pass


def run_of(target: str, setup: str, repeat: int, images: float, p99: float = 5.0, kind: str = "closed", rate: float = 0.0) -> Sample:
    arrivals, concurrency = ("closed", 16) if kind == "closed" else ("poisson", 0)
    return Sample(
        "resnet20",
        "h2load",
        arrivals,
        rate,
        concurrency,
        1,
        1.0,
        0.05,
        None,
        0,
        target=target,
        setup=setup,
        precision="fp32",
        kind=kind,
        repeat=repeat,
        calls=round(images),
        answered=round(images),
        latency_ms={"p50": p99 / 2, "p99": p99},
    )


def measured() -> list[Sample]:
    """Ours, and a peer whose second configuration is the better one; the better one was disturbed once."""
    ours = [run_of("ours", "default", repeat, images) for repeat, images in enumerate((1000, 1100, 900))]
    narrow = [run_of(NAME, "2 x 1", repeat, images) for repeat, images in enumerate((500, 600, 550))]
    wide = [run_of(NAME, "1 x 2", repeat, images) for repeat, images in enumerate((1000, 1000, 1000))]
    both = (("ours", "default", 4.0), (NAME, "1 x 2", 8.0))
    rates = (800.0, 300.0)  # the second is of another load
    equal = [run_of(name, setup, 0, rate, p99, "equal", rate) for rate in rates for name, setup, p99 in both]
    return [*ours, *narrow, *wide[:2], replace(wide[2], void="disturbed"), *equal]


def test_a_peer_counts_in_its_best_configuration_under_each_load(make_report: Callable[..., Report]) -> None:
    report = replace(make_report(20), samples=tuple(measured()), searches=())
    best = best_cells(report.samples, report.models[0], 16, 1)
    assert {name: cell.first.setup for name, cell in best.items()} == {"ours": "default", NAME: "1 x 2"}
    ours, peer = standings(report)
    assert ours.ratio is None
    assert peer.ratio is not None
    assert (peer.ratio.median, peer.ratio.low, peer.ratio.high, peer.ratio.n) == (1.05, 1.0, 1.1, 2)
    ((at, late),) = peer.equal
    assert at.first.rate == 800.0  # 0.8 of the slower one's 1,000; that of another load is not shown
    assert late is not None
    assert late.median == 0.5
    (row,) = peer.rows()
    assert len(row) == len(HEADER)
    assert row[3:5] == ("Triton (Python backend)", "1 x 2")
    assert "1.05 [1.00, 1.10] n=2" in row


def test_ratios_are_of_repeats_that_both_have() -> None:
    def cell(*runs: Sample) -> Cell:
        return Cell(runs, (), runs[0])

    ours = cell(run_of("ours", "", 0, 100), run_of("ours", "", 2, 150))
    peer = cell(run_of("x", "", 0, 80), run_of("x", "", 1, 1), run_of("x", "", 2, 100))
    found = ratios(ours, peer, lambda run: run.images)
    assert found is not None
    assert (found.median, found.low, found.high, found.n) == (1.375, 1.25, 1.5, 2)
    assert ratios(cell(run_of("ours", "", 5, 1)), peer, lambda run: run.images) is None


def test_the_order_is_reversed_every_other_repeat() -> None:
    both = contenders(("triton",), 2)
    assert list(in_turn(both, 0)) == both
    assert list(in_turn(both, 1)) == both[::-1]
