"""On a real GPU; skipped, with what is missing, where there is none."""

import logging
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from resnet_models.sample import load_sample
from resnet_server.engines.api import CPU_PROVIDER, Device, EngineSpec, Images, Logits
from resnet_server.engines.compute import Compute
from resnet_server.engines.device import TF32_SWITCH, cuda_obstacle, pick_devices
from resnet_server.engines.gpu import cuda_provider as cuda
from resnet_server.engines.gpu.cuda_provider import TOLERANCES, CudaOpener
from resnet_server.engines.gpu.driver import load_driver
from resnet_server.engines.gpu.memory import open_gpu_memory
from resnet_server.engines.gpu.tensorrt import tensorrt_obstacle
from resnet_server.engines.gpu.tuning import Tactic, difference
from resnet_server.engines.session import Provider, read_model
from resnet_server.errors import EngineError

OBSTACLE = cuda_obstacle()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(OBSTACLE is not None, reason=f"no CUDA: {OBSTACLE}")]
PRECISIONS = ("fp32", "fp16", "int8")
ROWS = 8


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """TF32 as `preload_libraries` sets it, and a search in every test; neither is left behind."""
    monkeypatch.setenv(TF32_SWITCH, "0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def images() -> Images:
    return load_sample().images[:ROWS].copy()


@pytest.fixture
def own_precise(precise_repository: Path, tmp_path: Path) -> Path:
    """A copy, since engines are kept in it."""
    return Path(shutil.copytree(precise_repository, tmp_path / "repository"))


def opener_of(repository: Path, precision: str) -> CudaOpener:
    spec = spec_of(repository, precision)
    return CudaOpener(spec, read_model(spec.path), precision)


def spec_of(repository: Path, precision: str, device: Device | None = None) -> EngineSpec:
    path = repository / "resnet20" / "1" / f"model.{precision}.onnx"
    return EngineSpec(path, device or pick_devices("cuda")[0], 1, 0, ROWS, 32, 32, 10)


def on_cpu(spec: EngineSpec, images: Images) -> Logits:
    return Compute(replace(spec, device=Device("cpu", CPU_PROVIDER, "test"))).run(images, len(images), wide=False)


def assert_near(found: Logits, expected: Logits, precision: str) -> None:
    assert difference(found, expected, TOLERANCES[precision]) == ""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_bucket_and_every_size_agrees_with_the_cpu(
    precise_repository: Path, images: Images, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    spec = spec_of(precise_repository, precision)
    compute, right = Compute(spec), on_cpu(spec, images)
    compute.warm_up(spec.blank())
    assert compute.padded is not None
    assert tuple(compute.padded.tactics) == spec.buckets
    compute.pin(images)
    assert "bytes stay unlocked" not in caplog.text
    for rows in (8, 1, 7, 2, 5, 4, 3, 6, 8, 1):
        assert_near(compute.run(images, rows, wide=False), right[:rows], precision)
    compute.unpin(images)


@pytest.mark.parametrize("rows", [1, 8])
def test_a_cuda_graph_computes_what_the_plain_tactic_does_on_images_it_was_not_captured_with(
    precise_repository: Path, images: Images, rows: int
) -> None:
    opener = opener_of(precise_repository, "fp32")
    plain, graph = opener.open(rows, Tactic()), opener.open(rows, Tactic(graph=True))
    for _ in range(4):  # two runs, the capture, a replay
        graph.run(np.zeros_like(images[:rows]))
    for batch in (images[:rows], images[::-1][:rows].copy(), images[:rows]):
        assert_near(graph.run(batch), plain.run(batch), "fp32")


@pytest.mark.parametrize("tactic", [Tactic(nhwc=True), Tactic(nhwc=True, exhaustive=True), Tactic(nhwc=True, graph=True)], ids=str)
def test_fp16_in_nhwc_agrees_with_the_plain_tactic(precise_repository: Path, images: Images, tactic: Tactic) -> None:
    opener = opener_of(precise_repository, "fp16")
    assert_near(opener.open(ROWS, tactic).run(images), opener.open(ROWS, Tactic()).run(images), "fp16")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_node_is_left_to_the_cpu(precise_repository: Path, precision: str, caplog: pytest.LogCaptureFixture) -> None:
    opener_of(precise_repository, precision).open(ROWS, Tactic())
    assert "some nodes run on the CPU" not in caplog.text


def test_a_gpu_that_is_not_there_is_an_error_and_no_other_is_taken(precise_repository: Path) -> None:
    there = pick_devices("cuda")[0]
    with pytest.raises(EngineError, match=r"model\.fp32\.onnx"):
        Compute(spec_of(precise_repository, "fp32", replace(there, id=load_driver().count)))


def test_onnx_runtime_knows_every_option_by_its_name(precise_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def misspelt(device_id: int, tactic: Tactic) -> Provider:
        name, options = right(device_id, tactic)
        return name, {**options, "prefer_nwhc": "1"}

    right = cuda.cuda_provider
    monkeypatch.setattr(cuda, "cuda_provider", misspelt)
    with pytest.raises(EngineError, match="prefer_nwhc"):
        opener_of(precise_repository, "fp32").open(1, Tactic())


def test_two_engines_share_a_gpu(precise_repository: Path, images: Images) -> None:
    spec = spec_of(precise_repository, "fp32")
    right = on_cpu(spec, images)
    found: list[list[Logits]] = [[], []]

    def serve(index: int) -> None:
        compute = Compute(spec)
        compute.warm_up(spec.blank())
        found[index] = [compute.run(images, rows, wide=False) for _ in range(20) for rows in (8, 3, 1)]

    threads = [threading.Thread(target=serve, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for logits in found:
        assert len(logits) == 60
        for each in logits:
            assert_near(each, right[: len(each)], "fp32")


def test_the_memory_of_the_gpu_is_known(precise_repository: Path) -> None:
    device = pick_devices("cuda")[0]
    memory = open_gpu_memory(device.id)
    assert memory is not None
    compute = Compute(spec_of(precise_repository, "fp32"))
    assert 0 < memory.read().used <= memory.read().total
    assert compute.padded is not None


@pytest.mark.parametrize("graph", [False, True])
def test_tensorrt_agrees_and_keeps_its_engines(own_precise: Path, images: Images, graph: bool) -> None:
    if obstacle := tensorrt_obstacle():
        pytest.skip(obstacle)
    opener = opener_of(own_precise, "fp16")
    bound, plain = opener.open(4, Tactic(tensorrt=True, graph=graph)), opener.open(4, Tactic())
    for _ in range(4):
        assert_near(bound.run(images[:4]), plain.run(images[:4]), "fp16")
    assert list((own_precise / "resnet20" / "1" / "tensorrt").glob("*/4/*.engine"))
