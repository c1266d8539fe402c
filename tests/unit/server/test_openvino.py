"""OpenVINO as a runtime: what it computes, when it is tried, and what happens where it fails."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from resnet_models.sample import load_sample
from resnet_proto.manifest import read_manifest, read_replay
from resnet_proto.sample_check import check_sample
from resnet_server.cli import main
from resnet_server.engines import runtimes
from resnet_server.engines.api import CPU_PROVIDER, CUDA_PROVIDER, ONNXRUNTIME, OPENVINO, Device, EngineSpec
from resnet_server.engines.compute import Compute
from resnet_server.engines.openvino import library
from resnet_server.engines.openvino.compiled import CompiledNetwork
from resnet_server.engines.runtimes import own_sizes, pick_runtimes, runtime_version
from resnet_server.errors import EngineError, StartError
from resnet_server.models.model_settings import ModelSettingsError, read_model_settings
from resnet_server.planning.measure import Found
from resnet_server.planning.plan import Plan, Trial, choose
from resnet_server.planning.planner import ModelFile, Planned, Planner
from resnet_server.settings import Settings

needs_openvino = pytest.mark.skipif(not runtime_version(OPENVINO), reason="OpenVINO is not installed")
CPU = Device("cpu", CPU_PROVIDER, "test")
ON_ORT = [Trial("fp32", 2, 1, rows, 1e-3 * rows) for rows in (1, 8)]
ON_OPENVINO = [replace(trial, seconds=0.8 * trial.seconds, runtime=OPENVINO) for trial in ON_ORT]


def spec_of(released: Path, precision: str, **given: Any) -> EngineSpec:
    path = released / "resnet20" / "1" / f"model.{precision}.onnx"
    spec = EngineSpec(path, CPU, 1, 2, 64, 32, 32, 10, runtime=OPENVINO, own_sizes=own_sizes(OPENVINO, [path]))
    return replace(spec, **given)


@needs_openvino
def test_every_size_is_computed_as_onnx_runtime_does_narrow_and_wide(released_repository: Path) -> None:
    images, spec = load_sample().images[:64], spec_of(released_repository, "fp32")
    right = Compute(replace(spec, runtime=ONNXRUNTIME)).run(images, 64, wide=False)
    compute = Compute(spec)
    for rows in (1, 2, 5, 16, 17, 64):
        for wide in (False, True):
            found = compute.run(images, rows, wide)
            assert found.shape == (rows, 10)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, right[:rows], atol=1e-4)
    kept = compute.run(images, 1, wide=False)
    compute.run(images[1:], 1, wide=False)
    np.testing.assert_allclose(kept, right[:1], atol=1e-4)  # an answer is not overwritten by the next one


@needs_openvino
def test_a_warm_engine_compiles_nothing_more(released_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of(released_repository, "fp32", max_rows=4)
    assert spec.buckets == (1, 2, 3, 4)
    compute, images = Compute(spec), load_sample().images[:4]
    compute.warm_up(images)

    def refuse(*_: object) -> None:
        raise AssertionError("compiled while serving")

    monkeypatch.setattr(CompiledNetwork, "_compile", refuse)
    for rows in (1, 2, 3, 4):
        for wide in (False, True):
            assert compute.run(images, rows, wide).shape == (rows, 10)


@needs_openvino
def test_int8_comes_as_near_to_the_reference_as_when_certified(released_repository: Path) -> None:
    folder = released_repository / "resnet20" / "1"
    manifest = read_manifest(folder)
    sample = read_replay(folder, manifest)
    assert sample is not None
    artifact = next(artifact for artifact in manifest.artifacts if artifact.precision == "int8")
    logits = Compute(spec_of(released_repository, "int8", max_rows=128)).run(sample.images, len(sample.images), wide=False)
    expected = sample.expected(manifest, artifact)
    assert check_sample(logits, replace(expected, elsewhere=True)).broken == ""
    assert "from what they were when certified" in check_sample(logits, expected).broken  # it is another rounding all the same


@needs_openvino
def test_what_openvino_refuses_is_an_engine_error(released_repository: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"model\.onnx: OpenVINO cannot read it: "):
        Compute(spec_of(released_repository, "fp32", path=tmp_path / "model.onnx"))
    with pytest.raises(EngineError, match=r"model\.fp32\.onnx: its sha256 is "):
        Compute(spec_of(released_repository, "fp32", sha256="0" * 64))
    with pytest.raises(EngineError, match=r"model\.fp32\.onnx: OpenVINO cannot compile it for 3 rows: "):
        Compute(spec_of(released_repository, "fp32", channels=5)).prepare(3, wide=False)
    with pytest.raises(EngineError, match="OpenVINO failed on 2 rows: "):
        Compute(spec_of(released_repository, "fp32")).run(np.zeros((8, 16, 16, 3), np.uint8), 2, wide=False)


def test_large_files_are_not_held_once_for_each_size(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(bytes(runtimes.MOST_BYTES_OF_OWN_SIZES))
    large.write_bytes(bytes(runtimes.MOST_BYTES_OF_OWN_SIZES + 1))
    assert [own_sizes(OPENVINO, [small]), own_sizes(OPENVINO, [large]), own_sizes(ONNXRUNTIME, [small])] == [16, 0, 0]
    spec = EngineSpec(small, CPU, 1, 0, 24, 32, 32, 10, own_sizes=16)
    assert spec.buckets == (*range(1, 17), 24)
    assert replace(spec, own_sizes=0).buckets == (1, 2, 4, 8, 16, 24)


@needs_openvino
def test_only_those_who_compute_import_it_and_its_telemetry_stays_out() -> None:
    code = "import sys, resnet_server.app, resnet_server.cli; assert not any('openvino' == name.split('.')[0] for name in sys.modules)"
    again = (
        "from resnet_server.engines.openvino.library import load_openvino as l; l().Core(); assert 'openvino_telemetry' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", f"{code}; {again}"], check=True)


def test_an_openvino_that_cannot_be_imported_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match="OpenVINO cannot be imported: "):
        library.load_openvino()


@pytest.mark.parametrize(
    ("device", "mode", "version", "message"),
    [
        (
            Device("cuda", CUDA_PROVIDER, "test", 1, "NVIDIA L4"),
            "auto",
            "2026.4.1",
            r"the device is cuda:1 \(NVIDIA L4\); expected --device cpu",
        ),
        (CPU, "thread", "2026.4.1", "processes of its own only; expected Linux, and --engine-mode auto or process"),
        (CPU, "auto", "", r"it is not installed; pip install 'resnet-serving\[openvino\]' brings it"),
    ],
)
def test_where_it_cannot_compute_auto_leaves_it_out_and_asking_for_it_is_an_error(
    device: Device, mode: str, version: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtimes, "runtime_version", lambda runtime: version)
    assert pick_runtimes("auto", device, mode) == pick_runtimes(ONNXRUNTIME, device, mode) == (ONNXRUNTIME,)
    with pytest.raises(StartError, match=f"runtime: openvino cannot compute here: .*{message}"):
        pick_runtimes(OPENVINO, device, mode)


def test_a_model_has_a_runtime_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "serving.toml").write_text('runtime = "onnxruntime"')
    assert read_model_settings(tmp_path).applied(Settings(tmp_path)).runtime == ONNXRUNTIME
    (tmp_path / "serving.toml").write_text('runtime = "tensorrt"')
    with pytest.raises(ModelSettingsError, match="runtime: 'tensorrt'; expected one of auto, onnxruntime, openvino"):
        read_model_settings(tmp_path)


def test_the_plan_takes_the_runtime_that_measures_faster() -> None:
    plan = choose([*ON_ORT, *ON_OPENVINO], None, 2)
    assert plan.layout == ("fp32", 2, 1, OPENVINO)
    assert "next: 2 x 1 in fp32 on ONNX Runtime" in plan.reason
    assert Plan.from_json(plan.to_json()) == plan
    assert choose([*ON_ORT, *(replace(trial, seconds=2 * trial.seconds) for trial in ON_OPENVINO)], None, 2).runtime == ONNXRUNTIME
    near = [replace(trial, seconds=0.97 * trial.seconds, runtime=OPENVINO) for trial in ON_ORT]
    assert choose([*near, *ON_ORT], None, 2).runtime == ONNXRUNTIME  # its engines start faster and are smaller


def test_a_lone_image_is_compared_within_one_runtime() -> None:
    alone, wide = Trial("fp32", 1, 1, 1, 1e-3), Trial("fp32", 1, 2, 1, 0.5e-3, wide=True)
    others = [replace(trial, runtime=OPENVINO) for trial in (alone, wide)]
    assert choose([*ON_ORT, *ON_OPENVINO, alone, wide], None, 2).wide_threads == 0
    plan = choose([*ON_ORT, *ON_OPENVINO, alone, *others], None, 2)
    assert (plan.runtime, plan.wide_threads, plan.wide_seconds) == (OPENVINO, 2, 0.5e-3)


class Given(Planner):
    """Finds given trials, by runtime; what has none fails."""

    def __init__(self, found: dict[str, Found], *arguments: Any, **given: Any) -> None:
        super().__init__(*arguments, **given)
        self.found, self.asked = found, []  # type: ignore[var-annotated]

    def _try(self, files: Sequence[ModelFile], accuracies: dict[str, float], runtime: str, seconds: float) -> Found:
        self.asked.append((runtime, seconds))
        if runtime not in self.found:
            raise EngineError("plan: the trial ended with status -6: it said nothing")
        return self.found[runtime]


FILES = [ModelFile("fp32", Path("folder/model.fp32.onnx"), "ab", 32, 32)]
BOTH = {ONNXRUNTIME: Found(tuple(ON_ORT), {}), OPENVINO: Found(tuple(ON_OPENVINO), {})}


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(runtimes, "runtime_version", lambda runtime: "1")
    return Settings(tmp_path, plan_cache=tmp_path / "plans", plan_seconds=4.0)


def test_both_runtimes_share_the_time_and_a_whole_plan_is_kept(settings: Settings) -> None:
    planner = Given(BOTH, settings, CPU)
    assert planner.plan(FILES).plan.runtime == OPENVINO
    assert planner.asked == [(ONNXRUNTIME, 2.0), (OPENVINO, 2.0)]
    assert planner.plan(FILES).cached
    alone = Given(BOTH, replace(settings, runtime=ONNXRUNTIME), CPU)
    assert (alone.plan(FILES).plan.runtime, alone.asked) == (ONNXRUNTIME, [(ONNXRUNTIME, 4.0)])


def test_a_runtime_that_cannot_be_measured_costs_a_warning_and_its_plan_is_not_kept(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    planned = Given({ONNXRUNTIME: BOTH[ONNXRUNTIME]}, settings, CPU).plan(FILES)
    assert (planned.plan.runtime, list(planned.broken)) == (ONNXRUNTIME, [OPENVINO])
    assert [record.getMessage() for record in caplog.records] == [
        "plan: OpenVINO is left out: plan: the trial ended with status -6: it said nothing"
    ]
    assert Given(BOTH, settings, CPU).kept(FILES) is None
    refusing = Found((), {"fp32": "model.fp32.onnx: OpenVINO cannot read it: what is this"})
    assert Given({**BOTH, OPENVINO: refusing}, settings, CPU).plan(FILES).plan.runtime == ONNXRUNTIME
    assert "plan: OpenVINO is left out for fp32: model.fp32.onnx: OpenVINO cannot read it" in caplog.text
    assert Given(BOTH, settings, CPU).kept(FILES) is None
    with pytest.raises(EngineError, match="status -6"):
        Given({OPENVINO: BOTH[OPENVINO]}, settings, CPU).plan(FILES)


def test_a_runtime_on_which_the_certificate_does_not_hold_is_not_tried_again(settings: Settings) -> None:
    planner = Given(BOTH, settings, CPU)
    refused = planner.plan(FILES)
    other = planner.without(refused, FILES)
    assert other is not None
    assert (other.plan.runtime, other.plan.left_out) == (ONNXRUNTIME, (OPENVINO,))
    assert planner.without(other, FILES) is None
    later = Given(BOTH, settings, CPU)
    assert later.plan(FILES) == Planned(other.plan, {}, cached=True)  # the next start
    assert later.asked == []
    again = Given(BOTH, settings, CPU, left_out=other.plan.left_out)  # measured in calm while it serves
    assert (again.measure(FILES).plan.left_out, again.asked) == ((OPENVINO,), [(ONNXRUNTIME, 4.0)])


def test_what_was_asked_for_alone_has_nothing_to_fall_back_to(settings: Settings) -> None:
    planner = Given(BOTH, replace(settings, runtime=OPENVINO), CPU)
    assert planner.without(planner.plan(FILES), FILES) is None


def test_giving_up_is_no_failure_of_a_runtime(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    class GivenUp(Given):
        def _try(self, files: Sequence[ModelFile], accuracies: dict[str, float], runtime: str, seconds: float) -> Found:
            if runtime == OPENVINO:
                self.give_up()
                self.found = {}
            return super()._try(files, accuracies, runtime, seconds)

    with pytest.raises(EngineError, match="status -6"):
        GivenUp(dict(BOTH), settings, CPU).plan(FILES)
    assert not caplog.records


def test_a_crash_while_it_is_measured_leaves_the_plan_of_onnx_runtime(
    released_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "stub"
    (stub / "openvino").mkdir(parents=True)
    (stub / "openvino" / "__init__.py").write_text("import os\nos.abort()\n")
    (stub / "openvino-1.0.dist-info").mkdir()
    (stub / "openvino-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: openvino\nVersion: 1.0\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stub), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.syspath_prepend(str(stub))
    options = ["--runtime", "auto", "--device", "cpu", "--threads", "1", "--plan-seconds", "0.5", "--plan-cache", str(tmp_path / "plans")]
    result = CliRunner().invoke(main, ["plan", "--repository", str(released_repository), "--models", "resnet20", *options])
    assert result.exit_code == 0, result.output
    assert "on ONNX Runtime: " in result.output
    assert not list(tmp_path.glob("plans/*.json"))
