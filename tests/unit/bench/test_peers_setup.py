"""What `peers` puts before other servers is valid, their processes come and go whole, and ratios are of the same repeats."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from resnet_bench.errors import BenchError
from resnet_bench.limit.processes import free_port, usage_of
from resnet_bench.limit.published import find
from resnet_bench.peers.comparison import check_idle
from resnet_bench.peers.environment import MARKER, Environment, PeerMissingError
from resnet_bench.peers.mlserver import write_folder
from resnet_bench.peers.peer import SERVED, Setting
from resnet_bench.peers.process import paused, running
from resnet_bench.peers.results import PeersReport, Row, Run, ratios
from resnet_bench.peers.table import peers_markdown
from resnet_bench.peers.targets import trained, untrained
from resnet_bench.peers.triton import write_repository
from resnet_bench.schema import Spread, this_machine


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
    config = read_config(write_repository(tmp_path, setting(repository, tmp_path), 2))
    assert (config["name"], config["backend"], config["maxBatchSize"]) == ("resnet20", "python", 64)
    assert config["input"] == [{"name": "image", "dataType": "TYPE_UINT8", "dims": ["32", "32", "3"]}]
    assert config["output"] == [{"name": "logits", "dataType": "TYPE_FP32", "dims": ["10"]}]
    assert config["instanceGroup"] == [{"count": 2, "kind": "KIND_CPU"}]
    assert config["dynamicBatching"] == {}  # no delay, no preferred size
    assert config["parameters"] == {"threads": {"stringValue": "1"}}


def test_tritons_defaults_are_left_to_triton(repository: Path, tmp_path: Path) -> None:
    config = read_config(write_repository(tmp_path, setting(repository, tmp_path), None))
    assert not {"instanceGroup", "dynamicBatching"} & config.keys()
    assert config["parameters"] == {"threads": {"stringValue": "0"}}


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


@pytest.mark.parametrize("rows", [[1], [3, 1, 4]])
def test_tritons_model_answers_each_request_with_its_own_rows(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[int]
) -> None:
    one = setting(repository, tmp_path)
    model = load_model(write_repository(tmp_path, one, 2), monkeypatch)
    model.initialize({"model_config": '{"parameters": {"threads": {"string_value": "1"}}}'})
    batches = [one.published.material.window(index * 8, count).images for index, count in enumerate(rows)]
    responses = model.execute([{"image": Tensor("image", images)} for images in batches])
    session = onnxruntime.InferenceSession(str(one.published.path), providers=["CPUExecutionProvider"])
    for images, response in zip(batches, responses, strict=True):
        (tensor,) = response
        np.testing.assert_allclose(tensor.data, session.run(None, {"image": images})[0], atol=1e-3)
    monkeypatch.delitem(sys.modules, "ort_session")


def test_mlserver_is_told_file_ports_and_batching(repository: Path, tmp_path: Path) -> None:
    write_folder(tmp_path / "mlserver", setting(repository, tmp_path), (1, 2, 3))
    model = (tmp_path / "mlserver" / "model-settings.json").read_text()
    assert '"max_batch_size": 64' in model
    assert "model.fp32.onnx" in model
    assert '"grpc_port": 2' in (tmp_path / "mlserver" / "settings.json").read_text()
    assert (tmp_path / "mlserver" / "mlserver_runtime.py").is_file()


def test_the_programs_of_the_peers_are_python() -> None:
    for path in SERVED.glob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_an_absent_environment_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(PeerMissingError, match=r"triton: no environment in .*; run again without --no-install to make it"):
        Environment(tmp_path, "triton", ("nvidia-pytriton==0.7.0",)).ensure(install=False)


def test_an_environment_that_cannot_be_made_says_why_and_is_not_taken_for_one(tmp_path: Path) -> None:
    environment = Environment(tmp_path, "odd", ("no such requirement",))
    with pytest.raises(PeerMissingError, match=r"odd: cannot be installed on Python .*: ERROR: Invalid requirement"):
        environment.ensure(install=True)
    assert not (environment.path / MARKER).exists()


def test_a_server_comes_up_can_be_paused_and_goes(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    with running("web", command, f"http://127.0.0.1:{port}/", tmp_path, {}) as pid:
        with paused([pid]):
            while state(pid) != "T":  # the signal takes effect soon; the test's time limit ends this
                pass
        while state(pid) == "T":
            pass
    assert usage_of(pid) == {}


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('loading'); raise SystemExit('error: no such model')"]
    with (
        pytest.raises(PeerMissingError, match="web: it does not start: error: no such model"),
        running("web", command, "http://127.0.0.1:1/", tmp_path, {}),
    ):
        pass


def test_ratios_are_of_repeats_that_both_have() -> None:
    ours = {0: Run(100, 1.0, 4.0, 1.0), 2: Run(150, 1.0, None, 1.0)}
    peer = {0: Run(80, 1.0, 5.0, 1.0), 1: Run(1, 1.0, 1.0, 1.0), 2: Run(100, 1.0, 5.0, 1.0)}
    assert ratios(ours, peer) == (Spread(1.375, 1.25, 1.5), Spread(0.8, 0.8, 0.8))
    assert ratios({}, peer) == (None, None)


@pytest.mark.parametrize(
    ("ratio", "late", "reached"),
    [(1.31, 1.0, True), (1.31, 1.1, False), (1.29, 0.9, False), (1.31, None, False), (None, None, None)],
)
def test_a_target_is_reached_by_throughput_and_p99(ratio: float | None, late: float | None, reached: bool | None) -> None:
    spreads = [None if value is None else Spread(value, value, value) for value in (ratio, late)]
    row = Row("m", 1, 1, "triton", "fp32", ratio=spreads[0], p99_ratio=spreads[1], least=1.3, p99_no_worse=True)
    assert row.reached is reached


def test_the_table_says_why_a_peer_has_no_figures() -> None:
    spread = Spread(2.0, 1.0, 3.0)
    rows = (
        Row("m", 1, 1, "ours", "int8", spread, spread, spread, 5.0),
        Row("m", 1, 1, "triton", "fp32", spread, spread, spread, 5.0, spread, spread, 1.3, True),
        Row("m", 1, 1, "mlserver", "fp32", why="mlserver: cannot be installed"),
    )
    text = peers_markdown(PeersReport("peers", this_machine(2), 3, 1.0, {"triton": "Triton 2"}, rows, (), True))
    lines = [line for line in text.splitlines() if line.startswith("| m |")]
    assert "| 2.00 ±1.00 | 2.00 ±1.00 | 1.3, p99 <= 1: MISSED |" in lines[1]
    assert "mlserver: cannot be installed" in lines[2]
    assert len({line.count("|") for line in lines}) == 1
    assert "triton: Triton 2" in text


def test_a_server_that_is_not_idle_voids_the_others() -> None:
    check_idle({"ours": 5.0, "triton": 0.1}, "ours", 3.0)
    with pytest.raises(BenchError, match=r"void: ours: triton was not idle: it took 0\.40 s of CPU in 3 s"):
        check_idle({"ours": 5.0, "triton": 0.4}, "ours", 3.0)


def test_the_targets_are_those_of_the_project(tmp_path: Path) -> None:
    works = [*trained(tmp_path), untrained(tmp_path)]
    least = {(w.model, w.ours_precision, a.in_flight, a.rows): (a.least, a.p99_no_worse) for w in works for a in w.aims}
    assert least["resnet56", "fp32", 1, 1] == (1.3, True)
    assert least["resnet56", "fp32", 16, 1] == (1.05, True)
    assert least["resnet20", "fp32", 1, 1] == (1.1, True)
    assert least["resnet20", "auto", 64, 1] == (1.4, False)
    assert least["resnet50", "int8", 16, 1] == (3.0, False)
    assert len(least) == 12
