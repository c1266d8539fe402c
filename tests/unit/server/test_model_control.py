"""Versions that change while they serve: a whole server in this process, real sockets, a real engine, Triton's own client."""

import gc
import shutil
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from changing import Serving, refusal, serving
from grpc_health.v1 import health_pb2, health_pb2_grpc
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_server.models import served_model
from resnet_server.models.served_model import ServedModel
from versions import add_version, alter, without_certificate


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plans")


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_model, "LET_GO_SECONDS", 0.05)


def test_a_version_takes_over_at_once_and_what_is_unloaded_comes_back(own_repository: Path, plans: Path) -> None:
    with serving(own_repository, plans) as server:
        assert "model_repository" in server.client.get_server_metadata().extensions
        assert server.infer() == server.infer() == server.infer() == "1"  # its form is known from the second on
        add_version(server.model, "2")
        assert server.infer() == "1"
        server.client.load_model("resnet20")
        assert (server.infer(), server.index()) == ("2", {"2": ("READY", "")})
        assert "'1' of model 'resnet20' is unknown; served: 2" in refusal(lambda: server.infer(version="1"))[1]
        assert list(server.metric("resnet_engines_ready")) == list(server.metric("resnet_model_info")) == ["2"]
        assert server.metric("resnet_images_total") == {"1": 4.0, "2": 1.0}  # what was counted stays
        server.client.unload_model("resnet20")
        assert refusal(server.infer) == ("UNAVAILABLE", "model 'resnet20' version 2 is unloaded")
        assert server.index() == {"2": ("UNAVAILABLE", "unloaded")}
        assert not server.client.is_model_ready("resnet20")
        assert server.client.is_server_ready()
        assert server.metric("resnet_engines_ready") == {}
        assert server.post("/v2/repository/models/resnet20/load", {"parameters": {"versions": "all"}}) == (200, {})
        assert server.index() == {"1": ("READY", ""), "2": ("READY", "")}
        assert (server.infer(version="1"), server.infer()) == ("1", "2")
        assert server.post("/v2/repository/models/resnet20/unload") == (200, {})
        assert refusal(server.infer)[0] == "UNAVAILABLE"


def test_a_refused_version_leaves_the_one_before_in_service_and_says_so(own_repository: Path, plans: Path) -> None:
    with serving(own_repository, plans) as server:
        damaged = add_version(server.model, "2", without_certificate)
        code, text = refusal(lambda: server.client.load_model("resnet20"))
        assert code == "FAILED_PRECONDITION"
        assert text.startswith("model 'resnet20' version 2 is refused: ")
        assert text.endswith("; in service: version 1")
        assert server.post("/v2/repository/models/resnet20/load") == (400, text)
        state, reason = server.index()["2"]
        assert (state, server.index()["1"], server.infer()) == ("UNAVAILABLE", ("READY", ""), "1")
        assert reason in text
        assert server.metric("resnet_model_refused") == {"2": 1.0}
        shutil.rmtree(damaged)
        (add_version(server.model, "2") / "model.fp32.onnx").write_bytes(b"no network")
        assert "sha256" in refusal(lambda: server.client.load_model("resnet20"))[1]
        assert (server.index()["1"], server.infer()) == (("READY", ""), "1")
        shutil.rmtree(damaged)
        server.client.load_model("resnet20")
        assert server.index() == {"1": ("READY", "")}
        assert server.metric("resnet_model_refused") == {}


def test_a_version_that_is_altered_where_it_stands_stays_as_it_was_until_it_is_right(own_repository: Path, plans: Path) -> None:
    with serving(own_repository, plans) as server:
        kept = (server.model / "1" / "manifest.json").read_bytes()
        before = set(served())
        server.client.load_model("resnet20")
        assert set(served()) == before  # nothing had changed
        (server.model / "1" / "manifest.json").write_bytes(kept.replace(b"resnet20", b"resnet21", 1))
        assert "it was altered after publishing" in refusal(lambda: server.client.load_model("resnet20"))[1]
        state, reason = server.index()["1"]
        assert (state, server.infer()) == ("READY", "1")
        assert reason.startswith("as before; what is in the repository now is refused: manifest.json: sha256 is")
        (server.model / "1" / "manifest.json").write_bytes(kept)
        alter(server.model / "1", lambda manifest: setattr(manifest.network, "variant", "other"))
        server.client.load_model("resnet20")
        assert (server.index(), server.infer()) == ({"1": ("READY", "")}, "1")
        assert server.metric("resnet_model_refused") == {}
        assert [labels["variant"] for labels in model_info(server)] == ["other"]


def model_info(server: Serving) -> list[dict[str, str]]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.app.metrics_port}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
    return [sample.labels for family in families for sample in family.samples if sample.name == "resnet_model_info"]


def served() -> list[int]:
    gc.collect()
    return [id(one) for one in gc.get_objects() if type(one) is ServedModel]


@pytest.mark.parametrize("control", ["none", "poll"])
def test_what_serves_is_closed_to_callers_unless_it_is_opened(control: str, repository: Path, plans: Path) -> None:
    with serving(repository, plans, model_control=control) as server:
        for verb in ("load", "unload"):
            code, text = refusal(partial(getattr(server.client, f"{verb}_model"), "resnet20"))
            assert code == "UNIMPLEMENTED"
            assert (
                text
                == f"RepositoryModel{verb.title()}: callers may not change what is served; start the server with --model-control explicit"
            )
            assert server.post(f"/v2/repository/models/resnet20/{verb}") == (501, text)
        assert "model_repository" not in server.client.get_server_metadata().extensions
        assert (server.infer(), server.index()) == ("1", {"1": ("READY", "")})


WRONG: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "no name": ("", {}, "NOT_FOUND", "model_name: '' is not in the repository; it holds resnet20"),
    "a path": ("../resnet20", {}, "NOT_FOUND", "'../resnet20' is not in the repository"),
    "this folder": (".", {}, "NOT_FOUND", "'.' is not in the repository"),
    "deeper": ("resnet20/1", {}, "NOT_FOUND", "'resnet20/1' is not in the repository"),
    "long": ("x" * 60_000, {}, "NOT_FOUND", "(60000 characters)' is not in the repository"),
    "config": (
        "resnet20",
        {"config": "{}"},
        "INVALID_ARGUMENT",
        "parameters.config: is unknown; expected none but versions; a model's settings",
    ),
    "files": (
        "resnet20",
        {"config": "{}", "files": {"file:1/model.onnx": b"x"}},
        "INVALID_ARGUMENT",
        "is unknown; expected none but versions",
    ),
}


def test_wrong_loads_and_unloads_change_nothing(repository: Path, plans: Path) -> None:
    with serving(repository, plans) as server:
        for name, given, code, text in WRONG.values():
            found = refusal(partial(server.client.load_model, name, **given))
            assert found[0] == code
            assert text in found[1]
        assert refusal(lambda: server.client.unload_model("other")) == ("NOT_FOUND", "model_name: 'other' is unknown; served: resnet20")
        load = "/v2/repository/models/resnet20/load"
        assert server.post(load, {"parameters": {"versions": "newest"}})[0] == 400
        assert server.post(load, {"parameters": {"versions": True}}) == (400, "parameters.versions: is bool_param; expected string_param")
        assert server.post(load, {"parameters": {"versions": 1.5}})[0] == 400
        assert server.post(load, {"parameters": []})[0] == 400
        assert "version 7 is refused: manifest.json" in server.post(load, {"parameters": {"versions": "7"}})[1]
        assert server.post("/v2/repository/index", {"ready": "yes"}) == (400, "ready: yes; expected true or false")
        assert [one["version"] for one in server.post("/v2/repository/index", {"ready": True})[1]] == ["1"]
        assert server.infer() == "1"


def test_a_models_own_settings_are_taken_and_wrong_ones_refuse_it(own_repository: Path, plans: Path) -> None:
    own = own_repository / "resnet20" / "serving.toml"
    own.write_text('max-batch = 2\nversions = [1]\nmax-delay = "1ms"\n')
    with serving(own_repository, plans) as server:
        add_version(server.model, "2")
        assert "3 rows; expected 1 to 2" in refusal(lambda: server.infer(3))[1]
        config = server.client.get_model_config("resnet20", as_json=True)["config"]
        assert (config["max_batch_size"], config["version_policy"]) == (2, {"specific": {"versions": ["1"]}})
        own.write_text("max-batch = 3\nthreads = 0\n")
        text = refusal(lambda: server.client.load_model("resnet20"))[1]
        assert "version 2 is refused: serving.toml: threads: 0; expected a whole number from 1 to 1024; in service: version 1" in text
        own.write_text("max-batch = 3\n")
        server.client.load_model("resnet20")
        assert (server.infer(3), server.index()) == ("2", {"2": ("READY", "")})
        assert "4 rows; expected 1 to 3" in refusal(lambda: server.infer(4))[1]
        own.write_text("max-batch = 4\n")
        server.client.load_model("resnet20")
        assert server.infer(4) == "2"


def test_a_canary_gets_its_share_of_the_calls_that_name_no_version(own_repository: Path, plans: Path) -> None:
    add_version(own_repository / "resnet20", "2")
    own = own_repository / "resnet20" / "serving.toml"
    own.write_text("weights = { 1 = 0.5, 2 = 0.5 }")
    with serving(own_repository, plans) as server:
        assert server.index() == {"1": ("READY", ""), "2": ("READY", "")}
        assert {server.infer() for _ in range(60)} == {"1", "2"}  # requests of one form, which is known from the second on
        assert {server.infer(version="2") for _ in range(10)} == {"2"}
        own.write_text("weights = { 1 = 1, 2 = 0 }")
        server.client.load_model("resnet20")
        assert {server.infer() for _ in range(30)} == {"1"}
        assert server.infer(version="2") == "2"
        own.write_text("versions = 'latest'")
        server.client.load_model("resnet20")
        assert ({server.infer() for _ in range(10)}, server.index()) == ({"2"}, {"2": ("READY", "")})


def test_changes_of_the_repository_are_taken_in(own_repository: Path, plans: Path) -> None:
    with (
        serving(own_repository, plans, model_control="poll", poll_seconds=0.05) as server,
        grpc.insecure_channel(server.app.grpc_address) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)

        def wait(service: str, wanted: str) -> None:
            for answer in health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=30):
                if answer.status == health_pb2.HealthCheckResponse.ServingStatus.Value(wanted):
                    return

        add_version(server.model, "2")
        wait("resnet20/2", "SERVING")
        wait("resnet20/1", "SERVICE_UNKNOWN")
        assert server.infer() == "2"
        add_version(server.model, "3", without_certificate)
        wait("resnet20/3", "NOT_SERVING")  # refused
        assert (server.infer(), server.index()["2"]) == ("2", ("READY", ""))
        shutil.rmtree(server.model)
        wait("resnet20", "SERVICE_UNKNOWN")
        assert set(server.index().values()) <= {("UNLOADING", "")}


def test_an_empty_repository_may_fill_while_it_is_served(repository: Path, tmp_path: Path, plans: Path) -> None:
    with serving(tmp_path, plans) as server:
        assert server.index() == {}
        shutil.copytree(repository / "resnet20", tmp_path / "resnet20")
        server.client.load_model("resnet20")
        assert server.infer() == "1"


def test_no_call_fails_while_versions_come_and_go_and_nothing_of_them_remains(own_repository: Path, plans: Path) -> None:
    cycles, stop = 6, threading.Event()
    stream = BytesIO()
    Image.fromarray(load_sample().images[0]).save(stream, "PNG")
    with serving(own_repository, plans) as server, grpc.insecure_channel(server.app.grpc_address) as channel:
        add_version(server.model, "2")
        classify = ClassifierStub(channel).Classify
        request = classifier_pb2.ClassifyRequest(images=[stream.getvalue()], model_name="resnet20")

        def call(infer: bool) -> set[str]:
            versions = set()
            while not stop.is_set():
                versions.add(server.infer(2) if infer else classify(request).model_version)
            return versions

        with ThreadPoolExecutor(6) as pool:
            callers = [pool.submit(call, infer) for infer in (True, True, True, True, False, False)]
            try:
                for cycle in range(cycles):
                    assert server.post("/v2/repository/models/resnet20/load", {"parameters": {"versions": str(2 - cycle % 2)}}) == (200, {})
            finally:
                stop.set()
            seen = [caller.result() for caller in callers]
        assert set().union(*seen) == {"1", "2"}
        assert len(served()) == 1
        assert list(server.metric("resnet_engines_ready")) == ["1"]
