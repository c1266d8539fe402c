"""Batches through ONNX Runtime as an engine sees them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from resnet_models.sample import load_sample
from resnet_server.engines.api import CPU_PROVIDER, CUDA_PROVIDER, Device, EngineSpec
from resnet_server.engines.compute import Compute
from resnet_server.engines.device import cuda_obstacle
from resnet_server.engines.gpu.tensorrt import TENSORRT_PROVIDER, tensorrt_obstacle
from resnet_server.engines.session import CPU, open_session, read_model
from resnet_server.errors import EngineError


@pytest.fixture
def spec(repository: Path) -> EngineSpec:
    path = repository / "resnet20" / "1" / "model.fp32.onnx"
    return EngineSpec(path, Device("cpu", CPU_PROVIDER, "test"), 1, 2, 8, 32, 32, 10)


def test_any_size_runs_as_it_is_on_cpu_narrow_and_wide(spec: EngineSpec) -> None:
    images = load_sample().images[:8]
    compute, session = Compute(spec), open_session(read_model(spec.path), [CPU], 1)
    compute.warm_up(images)
    compute.pin(images)
    compute.unpin(images)
    assert compute.padded is None
    for rows in (1, 3, 8):
        for wide in (False, True):
            (right,) = session.run(["logits"], {"image": images[:rows]})
            found = compute.run(images, rows, wide)
            assert found.shape == (rows, 10)
            np.testing.assert_allclose(found, right, atol=1e-4)


def test_what_onnx_runtime_refuses_to_compute_is_an_engine_error(spec: EngineSpec) -> None:
    with pytest.raises(EngineError, match="ONNX Runtime failed on 2 rows: "):
        Compute(spec).run(np.zeros((8, 16, 16, 3), np.uint8), 2, wide=False)


@pytest.mark.skipif(cuda_obstacle() is None, reason="there is a GPU")
def test_cuda_that_cannot_run_does_not_fall_back_and_says_nothing_on_stdout(spec: EngineSpec, capfd: pytest.CaptureFixture[str]) -> None:
    gpu = Device("cuda", CUDA_PROVIDER, "test")
    with pytest.raises(EngineError, match="asked for CUDAExecutionProvider, but ONNX Runtime fell back to CPUExecutionProvider"):
        Compute(replace(spec, device=gpu))
    assert capfd.readouterr().out == ""


@pytest.mark.skipif(
    TENSORRT_PROVIDER not in onnxruntime.get_available_providers() or tensorrt_obstacle() is None, reason="TensorRT is absent, or runs"
)
def test_a_provider_that_fails_is_an_error_and_not_the_cpu_with_a_note_on_stdout(
    spec: EngineSpec, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EngineError, match=r"model\.fp32\.onnx: ONNX Runtime cannot load it: .*install TensorRT libraries"):
        open_session(read_model(spec.path), [(TENSORRT_PROVIDER, {}), CPU], 1)
    assert capfd.readouterr().out == ""


def test_a_session_without_the_cpu_leaves_it_no_node(spec: EngineSpec) -> None:
    with pytest.raises(EngineError, match="fallback to CPU EP has been explicitly disabled"):
        open_session(read_model(spec.path), [("MadeUpProvider", {})], 1)
