"""Servers that compute with OpenVINO: right in every size, restarted like others, and left for ONNX Runtime where it is wrong."""

import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from processes import engines_of
from resnet_client import Client
from resnet_models.sample import load_sample
from resnet_proto.manifest import read_manifest
from resnet_server.engines.api import CPU_PROVIDER, ONNXRUNTIME, OPENVINO, Device, EngineSpec
from resnet_server.engines.compute import Compute
from resnet_server.engines.runtimes import runtime_version
from resnet_server.planning.plan import Trial, choose
from resnet_server.planning.plan_cache import PlanCache
from resnet_server.planning.planner import ModelFile, Planner
from resnet_server.settings import Settings
from serving import RunningServer, running_server

pytestmark = pytest.mark.skipif(not runtime_version(OPENVINO), reason="OpenVINO is not installed")
OPTIONS = ("--device", "cpu", "--models", "resnet20", "--precision", "fp32", "--engines", "1", "--threads", "1", "--max-batch", "20")
SIZES = (1, 2, 3, 7, 16, 17, 20)

WRONG_IN_THREES = """
from resnet_server.engines.openvino import compiled

right = compiled.CompiledNetwork.run

def run(self, slot, rows, wide):
    logits = right(self, slot, rows, wide)
    return logits + 0.01 if rows == 3 else logits

compiled.CompiledNetwork.run = run
"""


@pytest.fixture(scope="module")
def by_openvino(released_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that may compute with nothing else."""
    with running_server(released_repository, tmp_path_factory.mktemp("openvino") / "log", *OPTIONS, "--runtime", "openvino") as server:
        yield server
        assert server.terminate() == 0


def test_every_size_is_answered_right_and_what_computes_is_told(by_openvino: RunningServer, released_repository: Path) -> None:
    images = load_sample().images[:20]
    spec = EngineSpec(released_repository / "resnet20" / "1" / "model.fp32.onnx", Device("cpu", CPU_PROVIDER, "test"), 1, 0, 20, 32, 32, 10)
    right = Compute(spec).run(images, 20, wide=False)
    with Client(by_openvino.url) as client:
        for size in SIZES:
            np.testing.assert_allclose(client.infer(images[:size]), right[:size], atol=1e-3)
        (model,) = client.models()
    assert model.provider == "OpenVINO"
    text = scrape(by_openvino)
    assert 'provider="OpenVINO"' in text
    assert re.search(r'resnet_plan_info\{[^}]*runtime="openvino"[^}]*\} 1', text)
    with urllib.request.urlopen(f"{by_openvino.http_url}/v2/models/resnet20") as page:  # noqa: S310  # http, from the fixture
        assert '"openvino_OpenVINO_fp32"' in page.read().decode()
    log = by_openvino.log.read_text()
    assert "fp32 on OpenVINO, 1 engines x 1 threads" in log
    assert "WARNING" not in log.replace("WARNING resnet_server.planning.planner: plan: measured while others", "")


def test_an_engine_that_dies_is_certified_and_serves_again(by_openvino: RunningServer) -> None:
    images = load_sample().images[:3]
    with Client(by_openvino.url) as client:
        before = client.infer(images)
        (engine,) = engines_of(by_openvino)
        os.kill(engine, signal.SIGKILL)
        np.testing.assert_allclose(client.infer(images, timeout=60), before, atol=1e-4)  # the client tries again until it is back
    assert engines_of(by_openvino) != [engine]
    assert 'resnet_engine_restarts_total{model="resnet20",precision="fp32",version="1"} 1.0' in scrape(by_openvino)


def test_where_the_replay_refuses_it_onnx_runtime_serves_then_and_later(
    released_repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wrong in batches of three only, which are no power of two: each size that is compiled by itself is replayed."""
    (tmp_path / "sitecustomize.py").write_text(WRONG_IN_THREES)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    settings = Settings(released_repository, engines=1, threads=1, max_batch=20, runtime="auto", plan_cache=tmp_path / "plans")
    planner = Planner(settings, Device("cpu", CPU_PROVIDER, "test"))
    version = released_repository / "resnet20" / "1"
    artifact = next(artifact for artifact in read_manifest(version).artifacts if artifact.precision == "fp32")
    files = [ModelFile("fp32", version / artifact.file, artifact.sha256, 32, 32)]
    trials = [Trial("fp32", 1, 1, 20, seconds, runtime=runtime) for runtime, seconds in ((ONNXRUNTIME, 2e-3), (OPENVINO, 1e-3))]
    PlanCache(tmp_path / "plans").save(planner.key(files), choose(trials, None, 1))
    options = (*OPTIONS, "--runtime", "auto", "--plan-cache", str(tmp_path / "plans"))
    with running_server(released_repository, tmp_path / "log", *options) as server, Client(server.url) as client:
        assert [model.provider for model in client.models()] == ["CPUExecutionProvider"]
        assert server.terminate() == 0
    warnings = [line for line in (tmp_path / "log").read_text().splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert "fp32 on OpenVINO is not served: replay: at batch 3 image" in warnings[0]
    kept = planner.kept(files)
    assert kept is not None
    assert (kept.plan.runtime, kept.plan.left_out) == (ONNXRUNTIME, (OPENVINO,))


def scrape(server: RunningServer) -> str:
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        text: str = page.read().decode()
    return text
