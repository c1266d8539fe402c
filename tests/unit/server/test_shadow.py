"""Versions in shadow: what they are sent, what is found, and that callers neither wait for them nor meet them."""

import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from batching import HeldEngine, ask, batching, image, settle
from changing import Serving, refusal, serving
from prometheus_client import CollectorRegistry
from resnet_models.sample import load_sample
from resnet_proto.manifest import read_manifest, write_manifest
from resnet_proto.manifest_pb2 import Manifest
from resnet_server.batching.batcher import Batcher
from resnet_server.metrics.metrics import Metrics
from resnet_server.models import served_model, shadow
from resnet_server.models.model_settings import ModelSettings
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.models.shadow import ShadowTraffic
from resnet_server.models.versions import Weights
from resnet_server.settings import Shares
from versions import add_version

IMAGES = load_sample().images[:8]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "LET_GO_SECONDS", 0.05)


@pytest.fixture
def other_network(own_repository: Path, released_repository: Path) -> Path:
    """resnet20 with another network's files as version 2, and a copy of its own as version 3."""
    model = own_repository / "resnet20"
    folder = Path(shutil.copytree(released_repository / "resnet32" / "1", model / "2"))
    manifest = read_manifest(folder)
    manifest.name, manifest.version = "resnet20", "2"
    write_manifest(folder, manifest)
    add_version(model, "3")
    return own_repository


def logits_of(server: Serving, version: str) -> Any:
    tensor = tritonclient.grpc.InferInput("image", IMAGES.shape, "UINT8")
    tensor.set_data_from_numpy(IMAGES)
    answer = server.client.infer("resnet20", [tensor], model_version=version)
    return answer.as_numpy("logits"), answer.get_response().model_version


def wait(server: Serving, metric: str, version: str, least: float) -> float:
    for _ in range(2000):
        if (found := server.metric(metric).get(version, 0.0)) >= least:
            return found
    raise AssertionError(f"{metric} of version {version} stays at {found}")


def test_a_shadow_gets_copies_beside_a_canary_and_answers_nobody_who_did_not_name_it(
    other_network: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    own = other_network / "resnet20" / "serving.toml"
    own.write_text("weights = { 1 = 0.5, 3 = 0.5 }\nshadow = { 2 = 1.0 }\nprecision = 'fp32'\n")
    with caplog.at_level(logging.INFO, "resnet_server.models.shadow"), serving(other_network, tmp_path) as server:
        assert set(server.index()) == {"1", "2", "3"}
        answered = [logits_of(server, "")[1] for _ in range(30)]
        assert set(answered) == {"1", "3"}
        dropped = server.metric("resnet_shadow_dropped_total").get("2", 0.0)
        compared = wait(server, "resnet_shadow_images_total", "2", (30 - dropped) * len(IMAGES))
        (theirs, _), (ours, version) = logits_of(server, "1"), logits_of(server, "2")
        assert version == "2"
        agreed = (theirs.argmax(1) == ours.argmax(1)).mean()
        wait(server, "resnet_shadow_images_total", "2", compared + len(IMAGES))  # what version 1 said by name was copied, too
        assert server.metric("resnet_shadow_agreed_total")["2"] == pytest.approx(agreed * (compared + len(IMAGES)))
        largest = server.metric("resnet_shadow_difference_max")["2"]
        assert largest == pytest.approx(np.abs(theirs - ours).max(), rel=1e-3)
        assert largest > 0.1
        properties = server.client.get_model_config("resnet20", "2", as_json=True)["config"]["parameters"]
        assert float(properties["shadow_top1_agreement"]["string_value"]) == pytest.approx(agreed, abs=1e-6)
        own.write_text("versions = [1]\nprecision = 'fp32'\n")
        server.client.load_model("resnet20")
        assert server.metric("resnet_shadow_difference_max") == {}
        assert server.metric("resnet_shadow_images_total")["2"] == compared + len(IMAGES)
        assert f"resnet20 version 2 in shadow: {int(compared) + len(IMAGES)} images compared, agreement {100 * agreed:.2f} %" in caplog.text


def test_the_command_line_gives_shares_as_the_file_does_and_the_file_overrules_it(other_network: Path, tmp_path: Path) -> None:
    given = {"weights": (Shares("resnet20", (("1", 1.0),)),), "shadows": (Shares("resnet20", (("3", 1.0),)),), "precision": "fp32"}
    with serving(other_network, tmp_path, **given) as server:
        assert set(server.index()) == {"1", "3"}
        assert logits_of(server, "")[1] == "1"
        wait(server, "resnet_shadow_agreed_total", "3", len(IMAGES))
        assert server.metric("resnet_shadow_difference_max")["3"] < 1e-3
        (other_network / "resnet20" / "serving.toml").write_text("shadow = { 1 = 1 }\n")
        text = refusal(lambda: server.client.load_model("resnet20"))[1]
        assert "shadow: 1: has a share in weights, too; expected a version that answers nobody else" in text
        (other_network / "resnet20" / "serving.toml").write_text("shadow = { 1 = 1 }\nweights = { 3 = 1 }\n")
        server.client.load_model("resnet20")
        assert logits_of(server, "")[1] == "3"


def test_a_model_with_nothing_but_shadows_says_so(own_repository: Path, tmp_path: Path) -> None:
    (own_repository / "resnet20" / "serving.toml").write_text("shadow = { 1 = 0.5 }\n")
    with serving(own_repository, tmp_path) as server:
        assert refusal(lambda: logits_of(server, ""))[1] == (
            "model 'resnet20' has no version in service but 1 in shadow; name it to ask that one"
        )
        assert logits_of(server, "1")[1] == "1"


class Traffic:
    """Version 1 answers, and version 2 in shadow computes when the test says so."""

    def __init__(self, batcher: Batcher, beside: Batcher, engine: HeldEngine) -> None:
        self.metrics, self.registry, self.engine = Metrics(CollectorRegistry()), Registry(), engine
        self.traffic = ShadowTraffic(self.registry, self.metrics)
        self.answering, self.beside = served(batcher, "1"), served(beside, "2")

    async def answer(self, *values: int) -> None:
        """As a caller is told, and a copy taken."""
        assert self.answering.tap is not None
        self.answering.tap.copy(image(*values), np.asarray([[value] for value in values], np.float32))
        await settle()

    def count(self, name: str, **labels: str) -> float:
        self.metrics.buffer.settle()
        return self.metrics.registry.get_sample_value(name, {"model": "net", "version": "2", **labels}) or 0.0


def served(batcher: Batcher, version: str) -> ServedModel:
    info: Any = SimpleNamespace(key=("net", version, "fp32"), manifest=Manifest(), labels=("a",), properties=dict)
    nothing: Any = None
    return ServedModel(info, batcher, nothing, nothing)


@asynccontextmanager
async def shadowed(share: float = 1.0, **limits: Any) -> AsyncIterator[Traffic]:
    caller, engine = HeldEngine(), HeldEngine()
    async with batching([caller]) as batcher, batching([engine], **limits) as beside:
        traffic = Traffic(batcher, beside, engine)
        traffic.traffic.start()
        traffic.registry.state = "ready"
        own = {"net": ModelSettings(shadow=Weights((("2", share),)))}
        traffic.registry.switch([traffic.answering, traffic.beside], (), own)
        try:
            yield traffic
        finally:
            await traffic.traffic.close()


async def test_copies_go_one_at_a_time_and_what_does_not_fit_is_dropped_at_once() -> None:
    async with shadowed(max_queue_rows=4096) as traffic:
        for value in range(shadow.MOST_COPIES + 3):
            await traffic.answer(value)
        assert traffic.engine.batches == [[0]]
        assert traffic.count("resnet_shadow_dropped_total", reason="full") == 3
        for _ in range(3):
            await traffic.engine.release()
        assert traffic.engine.batches == [[0], [1], [2], [3]]
        assert traffic.count("resnet_shadow_images_total") == traffic.count("resnet_shadow_agreed_total") == 3
        await traffic.answer(9)
        assert traffic.count("resnet_shadow_dropped_total", reason="full") == 3  # there is room again


async def test_what_callers_send_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "MOST_BYTES", image(1).nbytes)
    async with shadowed() as traffic:
        await traffic.answer(1, 2)
        await traffic.answer(3)
        await traffic.answer(4)
        assert traffic.engine.batches == [[3]]
        assert traffic.count("resnet_shadow_dropped_total", reason="full") == 2


async def test_a_copy_waits_while_callers_wait_and_is_dropped_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "PATIENCE_SECONDS", 0.05)
    async with shadowed() as traffic:
        running, waiting = await ask(traffic.answering.batcher, 1), await ask(traffic.answering.batcher, 2)
        await traffic.answer(3)
        for _ in range(100_000):
            await settle()
            if traffic.count("resnet_shadow_dropped_total", reason="busy"):
                break
        assert traffic.engine.batches == []
        waiting.cancel()
        await settle()
        await traffic.answer(4)
        assert traffic.engine.batches == [[4]]  # what runs is no reason to wait
        running.cancel()


async def test_a_shadow_that_fails_or_has_no_engine_is_counted_and_does_not_make_the_server_unready() -> None:
    async with shadowed(max_request=1) as traffic:
        await traffic.answer(1, 2)
        assert traffic.count("resnet_shadow_dropped_total", reason="failed") == 1
        traffic.engine.ready = False
        traffic.engine.changed()
        await traffic.answer(1)
        assert traffic.count("resnet_shadow_dropped_total", reason="failed") == 2
        assert traffic.registry.is_ready
        assert not traffic.registry.is_up("net", "2")


async def test_no_copy_is_taken_of_shares_of_zero_and_none_after_the_shadow_has_gone() -> None:
    async with shadowed(share=0.0) as traffic:
        for value in range(50):
            await traffic.answer(value)
        assert traffic.engine.batches == []
        tap = traffic.answering.tap
        traffic.registry.switch((), [traffic.beside], {})
        assert tap is not None
        assert traffic.answering.tap is None
    async with shadowed() as traffic:
        tap = traffic.answering.tap
        traffic.registry.switch((), [traffic.beside], {})
        assert tap is not None
        tap.copy(image(1), np.zeros((1, 1), np.float32))  # by a call that had found it before
        await settle()
        assert traffic.engine.batches == []


def test_where_labels_differ_only_names_are_compared() -> None:
    metrics, target = Metrics(CollectorRegistry()), served_labels("2", ("cat", "dog"))
    comparison = shadow.Comparison(target, metrics, lambda: 0.0)
    theirs, ours = np.asarray([[1, 0, 0], [0, 0, 1]], np.float32), np.asarray([[0, 9], [9, 0]], np.float32)
    comparison.note(served_labels("1", ("dog", "cat", "cow")), theirs, ours)
    assert (comparison.images, comparison.agreed, comparison.largest) == (2, 1, 0.0)
    assert target.properties["shadow_top1_agreement"] == "0.500000"


def test_the_largest_difference_is_that_of_all_calls() -> None:
    target = served_labels("2", ("cat", "dog"))
    comparison = shadow.Comparison(target, Metrics(CollectorRegistry()), lambda: 0.0)
    for difference in (0.5, 2.0, 0.25):
        zeros = np.zeros((1, 2), np.float32)
        comparison.note(served_labels("1", ("cat", "dog")), zeros, zeros + np.float32(difference))
    assert (comparison.images, comparison.agreed, comparison.largest) == (3, 3, 2.0)
    comparison.end()
    assert "shadow_images" not in target.properties


def served_labels(version: str, labels: tuple[str, ...]) -> ServedModel:
    info: Any = SimpleNamespace(key=("net", version, "fp32"), manifest=Manifest(), labels=labels, properties=dict)
    nothing: Any = None
    return ServedModel(info, nothing, nothing, nothing)
