"""Options of the CUDA and TensorRT providers by precision and tactic, as handed to ONNX Runtime."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from resnet_server.engines.api import CUDA_PROVIDER, Device, EngineSpec
from resnet_server.engines.compute import Compute
from resnet_server.engines.gpu import cuda_provider as cuda
from resnet_server.engines.gpu import tensorrt
from resnet_server.engines.gpu.cuda_provider import TOLERANCES, CudaOpener, changes, cuda_provider, precision_of
from resnet_server.engines.gpu.tensorrt import TENSORRT_PROVIDER, cache_folder, tensorrt_provider
from resnet_server.engines.gpu.tuning import Tactic
from resnet_server.engines.session import CPU, ModelBytes, Provider
from resnet_server.errors import EngineError

DIGEST = "0123456789abcdef" * 4


@pytest.fixture
def spec(tmp_path: Path) -> EngineSpec:
    path = tmp_path / "model.fp16.onnx"
    path.write_bytes(b"weights")
    return EngineSpec(path, Device("cuda", CUDA_PROVIDER, "test", 1, "NVIDIA H100 PCIe"), 1, 0, 8, 32, 24, 10)


def reached(precision: str, tensorrt: bool) -> list[str]:
    """The tactics after each change, if all were taken."""
    tactic, names = Tactic(), []
    for change in changes(precision, tensorrt):
        tactic = change(tactic)
        names.append(str(tactic))
    return names


def test_only_fp16_is_tried_in_nhwc_and_int8_never_in_tensorrt() -> None:
    assert reached("fp32", tensorrt=False) == ["exhaustive search", "exhaustive search, CUDA graph"]
    assert reached("fp16", tensorrt=False) == ["NHWC", "NHWC, exhaustive search", "NHWC, exhaustive search, CUDA graph"]
    assert reached("fp16", tensorrt=True)[-1] == "NHWC, exhaustive search, CUDA graph, TensorRT"
    assert reached("fp32", tensorrt=True)[-1] == "exhaustive search, CUDA graph, TensorRT"
    assert reached("int8", tensorrt=True) == reached("fp32", tensorrt=False)


def test_the_plain_tactic_is_the_careful_one() -> None:
    assert cuda_provider(3, Tactic()) == (
        CUDA_PROVIDER,
        {
            "device_id": "3",
            "cudnn_conv_algo_search": "HEURISTIC",
            "cudnn_conv_use_max_workspace": "1",
            "do_copy_in_default_stream": "1",
            "arena_extend_strategy": "kSameAsRequested",
            "use_tf32": "0",
            "prefer_nhwc": "0",
            "enable_cuda_graph": "0",
        },
    )


@pytest.mark.parametrize(
    ("tactic", "option", "value"),
    [
        (Tactic(exhaustive=True), "cudnn_conv_algo_search", "EXHAUSTIVE"),
        (Tactic(nhwc=True), "prefer_nhwc", "1"),
        (Tactic(graph=True), "enable_cuda_graph", "1"),
        (Tactic(graph=True, tensorrt=True), "enable_cuda_graph", "0"),  # TensorRT captures the graph then
    ],
)
def test_a_tactic_changes_its_own_option_only(tactic: Tactic, option: str, value: str) -> None:
    plain, changed = cuda_provider(0, Tactic())[1], cuda_provider(0, tactic)[1]
    assert changed[option] == value
    assert {name for name in plain if plain[name] != changed[name]} <= {option}


@pytest.mark.parametrize(
    ("name", "precision"), [("model.fp16.onnx", "fp16"), ("model.int8.onnx", "int8"), ("model.fp32.onnx", "fp32"), ("net.onnx", "fp32")]
)
def test_the_precision_is_in_the_files_name(name: str, precision: str) -> None:
    assert precision_of(Path("1") / name) == precision
    assert precision in TOLERANCES


def test_tensorrt_gets_one_shape_its_caches_and_fp16_only_for_fp16(spec: EngineSpec) -> None:
    folder = cache_folder(spec, DIGEST)
    name, options = tensorrt_provider(spec, DIGEST, 4, half=True, graph=True)
    assert name == TENSORRT_PROVIDER
    assert options == {
        "device_id": "1",
        "trt_fp16_enable": "1",
        "trt_cuda_graph_enable": "1",
        "trt_profile_min_shapes": "image:4x32x24x3",
        "trt_profile_opt_shapes": "image:4x32x24x3",
        "trt_profile_max_shapes": "image:4x32x24x3",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder / "4"),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    assert (folder / "4").is_dir()
    careful = tensorrt_provider(spec, DIGEST, 8, half=False, graph=False)[1]
    assert (careful["trt_fp16_enable"], careful["trt_cuda_graph_enable"]) == ("0", "0")
    assert careful["trt_engine_cache_path"] != options["trt_engine_cache_path"]


def test_engines_are_kept_beside_the_file_apart_for_other_weights_and_gpus(spec: EngineSpec) -> None:
    first = cache_folder(spec, DIGEST)
    assert first.is_relative_to(spec.path.parent / "tensorrt")
    assert cache_folder(replace(spec, device=replace(spec.device, name="NVIDIA L4")), DIGEST) != first
    assert cache_folder(spec, "0" * 64) != first


def test_engines_of_a_read_only_repository_are_kept_in_the_users_cache(
    spec: EngineSpec, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: not (path == spec.path.parent and mode == os.W_OK))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert cache_folder(spec, DIGEST).is_relative_to(tmp_path / "cache" / "resnet-serving" / "tensorrt")


def test_no_place_for_engines_is_an_engine_error(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    (spec.path.parent / "tensorrt").write_text("a file where the folder should be")
    with pytest.raises(EngineError, match="there is no place to keep TensorRT's engines"):
        tensorrt_provider(spec, DIGEST, 4, half=True, graph=False)


def test_a_file_that_is_not_there_is_an_engine_error(spec: EngineSpec) -> None:
    spec.path.unlink()
    with pytest.raises(EngineError, match=r"model\.fp16\.onnx: it cannot be read: No such file or directory"):
        Compute(spec)


class Recorder:
    """Stands for `open_session` and `BoundSession`: a GPU that refuses what `refuses` says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses_whole: bool) -> None:
        self.asked: list[list[str]] = []
        self.places: list[tuple[str, int]] = []
        self._refuses_whole = refuses_whole
        monkeypatch.setattr(cuda, "open_session", self._session)
        monkeypatch.setattr(cuda, "BoundSession", self._bind)

    def _session(self, model: ModelBytes, providers: list[Provider], threads: int) -> str:
        self.asked.append([name for name, _ in providers])
        if CPU not in providers and self._refuses_whole:
            raise EngineError("nodes are assigned to the default CPU EP")
        return "session"

    def _bind(self, session: Any, rows: int, height: int, width: int, place: tuple[str, int], channels: int) -> str:
        self.places.append(place)
        return f"bound {rows}x{height}x{width}x{channels}"


def test_no_node_may_be_left_to_the_cpu(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(monkeypatch, refuses_whole=False)
    opener = CudaOpener(spec, ModelBytes("m", b"", DIGEST), "fp16")
    assert str(opener.open(4, Tactic())) == "bound 4x32x24x3"
    opener.open(4, Tactic(tensorrt=True))
    assert recorder.asked == [[CUDA_PROVIDER], [TENSORRT_PROVIDER, CUDA_PROVIDER]]
    assert recorder.places == [("cuda", 1), ("cuda", 1)]
    assert caplog.text == ""


def test_where_some_must_be_it_is_said_once(spec: EngineSpec, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(monkeypatch, refuses_whole=True)
    opener = CudaOpener(spec, ModelBytes("m", b"", DIGEST), "int8")
    opener.open(4, Tactic())
    opener.open(8, Tactic())
    assert recorder.asked == [[CUDA_PROVIDER], [CUDA_PROVIDER, CPU[0]], [CUDA_PROVIDER, CPU[0]]]
    assert [record.getMessage() for record in caplog.records] == [
        "model.fp16.onnx: some nodes run on the CPU, because nodes are assigned to the default CPU EP"
    ]


def test_tensorrt_is_not_there_where_the_build_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU[0]])
    tensorrt.tensorrt_obstacle.cache_clear()
    assert "a build without TensorRT" in str(tensorrt.tensorrt_obstacle())
    tensorrt.tensorrt_obstacle.cache_clear()
