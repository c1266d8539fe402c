"""A group `auto` of two networks, served by a real process and asked by unmodified clients."""

import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import orjson
import pytest
import tritonclient.grpc as triton
from chaos import png
from clients import KINDS, ask
from pages import PAGES, asks_group, programs
from processes import engines_of
from resnet_bench.errors import BenchError
from resnet_bench.plane.served import Labelled, drive, group_at, right_answers
from resnet_client import Client
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from serving import RunningServer, running_server
from versions import add_version

SMALL = ("--precision", "fp32", "--engines", "1", "--threads", "1", "--max-batch", "16")
GROUP = ("--group", "auto=resnet20,resnet56", "--models", "auto,resnet20,resnet56", *SMALL)
SAID = ("network", "network_version", "precision", "certificate", "accuracy", "depth", "reason", "why")
TRIES = 5


@pytest.fixture(scope="module")
def group_server(released_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Both networks alone, and both as `auto`."""
    log = tmp_path_factory.mktemp("group_server") / "log"
    with running_server(released_repository, log, *GROUP) as running:
        yield running
        assert running.terminate() == 0
    assert "Traceback" not in log.read_text()


@pytest.fixture
def stub(group_server: RunningServer) -> Iterator[GRPCInferenceServiceStub]:
    with grpc.insecure_channel(group_server.url) as channel:
        yield GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def members(group_server: RunningServer) -> dict[str, classifier_pb2.Member]:
    """As ListModels says, by name."""
    with grpc.insecure_channel(group_server.url) as channel:
        models = ClassifierStub(channel).ListModels(classifier_pb2.ListModelsRequest()).models
    return {member.name: member for model in models if model.name == "auto" for member in model.members}


def infer(url: str, rows: Any, model: str = "auto", **options: Any) -> tuple[Any, dict[str, Any]]:
    """Logits, and the answer's parameters, by Triton's client."""
    with triton.InferenceServerClient(url) as client:
        tensor = triton.InferInput("image", rows.shape, "UINT8")
        tensor.set_data_from_numpy(rows)
        result = client.infer(model, [tensor], **options)
        given = result.get_response().parameters
        return result.as_numpy("logits"), {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in given.items()}


def refused(url: str, **options: Any) -> tuple[str, str]:
    with pytest.raises(triton.InferenceServerException) as caught:
        infer(url, load_sample().images[:1], **options)
    return str(caught.value.status()), str(caught.value.message())


@pytest.mark.parametrize("program", [program for page in PAGES for program in programs(page) if asks_group(program)])
def test_a_program_of_a_page_that_asks_the_group_runs(program: str, group_server: RunningServer) -> None:
    """With more time than it says, since a machine under test may be busy."""
    program = program.replace("localhost:8001", group_server.url).replace("timeout=50_000", "timeout=10_000_000")
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    assert "resnet56" in result.stdout


def test_in_calm_the_deepest_answers_and_says_why_and_with_which_certificate(
    group_server: RunningServer, members: dict[str, classifier_pb2.Member]
) -> None:
    images = load_sample().images[:4]
    logits, said = infer(group_server.url, images)
    deep = members["resnet56"]
    expected = ("resnet56", "1", "fp32", deep.certificate_id, deep.accuracy, 56, "deepest", "the most accurate network is in time")
    assert tuple(said[name] for name in SAID) == expected
    assert len(deep.certificate_id) == 64
    assert np.array_equal(logits, infer(group_server.url, images, "resnet56")[0])


def test_a_deadline_too_short_for_the_deepest_is_met_by_the_shallow_one(
    group_server: RunningServer, members: dict[str, classifier_pb2.Member]
) -> None:
    images = load_sample().images[:16]
    alone = {name: infer(group_server.url, images, name)[0] for name in members}
    assert not np.array_equal(alone["resnet20"], alone["resnet56"])
    for _ in range(TRIES):  # times swing on a machine that others use, too
        for milliseconds in range(60, 5, -2):
            try:
                logits, said = infer(group_server.url, images, timeout=1000 * milliseconds)
            except triton.InferenceServerException as error:
                assert str(error.status()).endswith(("DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"))  # some cannot be met
                continue
            assert np.array_equal(logits, alone[said["network"]])
            if said["network"] == "resnet20":
                assert said["reason"] in ("slack", "backlog", "load")
                assert said["depth"] == 20
                return
    pytest.fail("no deadline was short enough for the shallow network and long enough to be met")


def test_a_floor_is_kept_or_the_request_refused(group_server: RunningServer, members: dict[str, classifier_pb2.Member]) -> None:
    url, floor = group_server.url, (members["resnet20"].accuracy + members["resnet56"].accuracy) / 2
    images = load_sample().images[:1]
    for given in (floor, str(floor)):
        assert infer(url, images, parameters={"min_accuracy": given})[1]["network"] == "resnet56"
    _, said = infer(url, images, parameters={"max_depth": 20})
    assert (said["network"], said["reason"]) == ("resnet20", "limit")
    best = f"expected at most {members['resnet56'].accuracy:g}, that of resnet56 fp32"
    assert refused(url, parameters={"min_accuracy": 0.99}) == ("StatusCode.INVALID_ARGUMENT", f"min_accuracy: 0.99; {best}")
    status, text = refused(url, parameters={"min_accuracy": floor, "max_depth": 20})
    assert status == "StatusCode.INVALID_ARGUMENT"
    assert f"min_accuracy: {floor:g} with max_depth 20: no network has both; served: resnet20 fp32 (" in text
    assert refused(url, parameters={"max_depth": 8})[1] == "max_depth: 8; expected at least 20, that of resnet20 fp32"
    assert refused(url, model="resnet20", parameters={"min_accuracy": 0.99})[1].startswith("min_accuracy: 0.99; that of 'resnet20' is 0.9")
    assert refused(url, parameters={"min_accuracy": 2.0})[1] == "parameters.min_accuracy: 2; expected 0 to 1, a share of the images"
    assert "expected 0 to 1 as double_param" in refused(url, parameters={"min_accuracy": "much"})[1]
    assert "parameters.max_depth: -1; expected a positive" in refused(url, parameters={"max_depth": -1})[1]


def test_a_deadline_that_only_a_shallower_one_could_meet_is_refused_where_a_floor_forbids_it(group_server: RunningServer) -> None:
    status, _ = refused(group_server.url, parameters={"min_accuracy": 0.92}, timeout=300)
    assert status == "StatusCode.DEADLINE_EXCEEDED"


def test_a_request_larger_than_a_batch_is_answered_by_one_network(group_server: RunningServer, stub: GRPCInferenceServiceStub) -> None:
    config = stub.ModelConfig(open_inference_pb2.ModelConfigRequest(name="auto")).config
    images = load_sample().images[: config.max_batch_size]
    logits, said = infer(group_server.url, images)
    np.testing.assert_allclose(logits, infer(group_server.url, images, said["network"])[0], atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_our_clients_need_no_change(kind: str, group_server: RunningServer) -> None:
    image = load_sample().images[:3]
    assert np.array_equal(ask(kind, group_server.url, "infer", image, model="auto"), infer(group_server.url, image)[0])


def test_classify_says_who_answered(group_server: RunningServer) -> None:
    picture = (Path(__file__).parents[2] / "server/resnet_server/endpoints/http/page/examples/cat.png").read_bytes()
    with grpc.insecure_channel(group_server.url) as channel:
        classifier = ClassifierStub(channel)
        found = classifier.Classify(classifier_pb2.ClassifyRequest(model_name="auto", images=[picture]))
        shallow = classifier.Classify(classifier_pb2.ClassifyRequest(model_name="auto", images=[picture], max_depth=20)).execution
        with pytest.raises(grpc.RpcError) as caught:
            classifier.Classify(classifier_pb2.ClassifyRequest(model_name="auto", images=[picture], min_accuracy=0.99))
    run = found.execution
    assert (found.model_name, run.network, run.network_depth, run.reason) == ("auto", "resnet56", 56, "deepest")
    assert found.results[0].labels[0].label == "cat"
    assert (shallow.network, shallow.network_depth, shallow.reason) == ("resnet20", 20, "limit")
    assert "min_accuracy: 0.99; expected at most" in str(caught.value)


def test_auto_is_an_ordinary_name_everywhere(group_server: RunningServer, stub: GRPCInferenceServiceStub) -> None:
    pb = open_inference_pb2
    assert stub.ModelReady(pb.ModelReadyRequest(name="auto")).ready
    assert stub.ModelReady(pb.ModelReadyRequest(name="auto", version="1")).ready
    index = {model.name: model.state for model in stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
    assert index == {"resnet20": "READY", "resnet56": "READY", "auto": "READY"}
    metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name="auto"))
    assert metadata.platform == "onnxruntime_CPUExecutionProvider_fp32"
    assert list(metadata.inputs[0].shape) == [-1, 32, 32, 3]
    assert "resnet20 fp32 version 1: accuracy 0.91" in metadata.properties["members"]
    infer(group_server.url, load_sample().images[:2])
    counted = stub.ModelStatistics(pb.ModelStatisticsRequest(name="auto")).model_stats[0]
    assert counted.inference_count >= 2
    with Client(group_server.url) as client:
        *_, auto = models = client.models()
        assert [model.name for model in models] == ["resnet20", "resnet56", "auto"]
        assert [(member.name, member.depth) for member in auto.members] == [("resnet20", 20), ("resnet56", 56)]
        (answer,) = client.classify([png(load_sample().images[0])], model="auto")
        assert answer.execution.network in ("resnet20", "resnet56")
        assert answer.execution.certificate_id in [member.certificate_id for member in auto.members]
        assert answer.execution.reason
    shown = subprocess.run(
        [sys.executable, "-m", "resnet_client", "models", "--url", group_server.url], capture_output=True, text=True, check=True
    )
    assert "2 members" in shown.stdout
    assert "UNCERTIFIED" not in shown.stdout


def get(url: str, data: bytes | None = None) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data)) as answer:  # noqa: S310  # http, from the fixture
            return answer.status, orjson.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, orjson.loads(error.read())


def test_rest_and_the_page_serve_it(group_server: RunningServer) -> None:
    image = load_sample().images[:1]
    tensor = {"name": "image", "shape": [1, 32, 32, 3], "datatype": "UINT8", "data": image.ravel().tolist()}
    body = {"inputs": [tensor], "parameters": {"min_accuracy": 0.92}}
    status, answer = get(f"{group_server.http_url}/v2/models/auto/infer", orjson.dumps(body))
    assert status == 200
    said = answer["parameters"]
    assert (said["network"], said["depth"], said["reason"]) == ("resnet56", 56, "deepest")
    assert 0.92 < said["accuracy"] < 0.94
    assert np.array_equal(np.float32(answer["outputs"][0]["data"]), infer(group_server.url, image, "resnet56")[0][0])
    status, answer = get(f"{group_server.http_url}/v2/models/auto/infer", orjson.dumps({**body, "parameters": {"min_accuracy": 1}}))
    assert (status, answer["error"][:15]) == (400, "min_accuracy: 1")
    models = {model["name"]: model for model in get(f"{group_server.http_url}/models")[1]}
    assert [member["name"] for member in models["auto"]["members"]] == ["resnet20", "resnet56"]
    picture = (Path(__file__).parents[2] / "server/resnet_server/endpoints/http/page/examples/cat.png").read_bytes()
    query = urllib.parse.urlencode({"model": "auto", "details": 1, "max_depth": 20})
    status, answer = get(f"{group_server.http_url}/classify?{query}", picture)
    assert (status, answer["network"], answer["reason"]) == (200, "resnet20", "limit")


def group_metrics(server: RunningServer) -> dict[str, float]:
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        lines = [line for line in page.read().decode().splitlines() if line.startswith("resnet_group_")]
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


IMAGES_OF = 'resnet_group_images_total{{model="auto",network="{}",precision="fp32",reason="{}",version="1"}}'
DEEP_IMAGES, SHALLOW_IMAGES = IMAGES_OF.format("resnet56", "deepest"), IMAGES_OF.format("resnet20", "limit")


def test_metrics_say_which_member_answered_and_why(group_server: RunningServer) -> None:
    deep, shallow = DEEP_IMAGES, SHALLOW_IMAGES
    before, images = group_metrics(group_server), load_sample().images[:3]
    for parameters in ({}, {"max_depth": 20}, {}):
        infer(group_server.url, images, parameters=parameters)
    after = group_metrics(group_server)
    assert (after[deep] - before[deep], after[shallow] - before[shallow]) == (6, 3)
    assert (
        after['resnet_group_switches_total{model="auto",version="1"}']
        >= before['resnet_group_switches_total{model="auto",version="1"}'] + 2
    )
    assert 0.2 < after['resnet_group_slow_down{model="auto",version="1"}'] < 5
    assert 0 <= after['resnet_group_serving_seconds{model="auto",version="1"}'] < 1


def test_the_benchmark_asks_each_member_and_sends_traces(group_server: RunningServer, members: dict[str, classifier_pb2.Member]) -> None:
    sample = load_sample()
    labelled = Labelled(sample.images[:16], sample.labels[:16])
    group = group_at(group_server.url, "auto")
    assert [member.name for member in group.members] == list(members)
    right = right_answers(group, labelled)
    for name in members:
        logits, _ = infer(group_server.url, labelled.images, name)
        assert right[f"{name} fp32"].tolist() == (logits.argmax(1) == labelled.labels).tolist()
    arrivals = np.arange(20) / 100
    for method, answers in (("auto", None), ("resnet20 fp32", {"resnet20 fp32": 20})):
        point = drive(group, "even", method, 0, arrivals, 10.0, labelled)
        assert (point.offered, point.in_time, point.real) == (20, 1.0, True)
        assert sum(point.by_member.values()) == 20
        assert answers is None or point.by_member == answers
        assert point.accuracy > 0.7
    with pytest.raises(BenchError, match=r"group: 'resnet20' is not served at .*; groups there: auto"):
        group_at(group_server.url, "resnet20")


def test_an_engine_that_dies_is_replaced_with_all_its_networks(group_server: RunningServer, stub: GRPCInferenceServiceStub) -> None:
    images = load_sample().images[:2]
    expected = {name: infer(group_server.url, images, name)[0] for name in ("resnet20", "resnet56")}
    os.kill(engines_of(group_server)[-1], signal.SIGKILL)  # the group is loaded last
    for parameters, network in (({}, "resnet56"), ({"max_depth": 20}, "resnet20")):
        logits, said = infer(group_server.url, images, parameters=parameters)  # waits until an engine is back
        assert said["network"] == network
        assert np.array_equal(logits, expected[network])
    assert stub.ServerReady(open_inference_pb2.ServerReadyRequest()).ready


def test_several_front_ends_serve_the_group_and_count_together(released_repository: Path, tmp_path: Path) -> None:
    images, calls = load_sample().images[:2], 8  # a connection each, which the system spreads over the front ends
    with running_server(released_repository, tmp_path / "log", *GROUP, "--models", "auto", "--frontends", "2") as running:
        for _ in range(calls):
            for parameters, network in (({}, "resnet56"), ({"max_depth": 20}, "resnet20")):
                assert infer(running.url, images, parameters=parameters)[1]["network"] == network
        counted = group_metrics(running)
        assert (counted[DEEP_IMAGES], counted[SHALLOW_IMAGES]) == (2 * calls, 2 * calls)
        assert running.terminate() == 0


def test_a_group_follows_a_member_in_all_front_ends(released_repository: Path, tmp_path: Path) -> None:
    for name in ("resnet20", "resnet56"):
        shutil.copytree(released_repository / name, tmp_path / "two" / name)
    images, options = load_sample().images[:2], ("--frontends", "2", "--model-control", "explicit", "--open-admin")
    with running_server(tmp_path / "two", tmp_path / "log", *GROUP, *options) as running:
        assert {infer(running.url, images)[1]["network_version"] for _ in range(8)} == {"1"}
        add_version(tmp_path / "two" / "resnet56", "2")
        with triton.InferenceServerClient(running.url) as client:
            client.load_model("resnet56")
        assert {infer(running.url, images)[1]["network_version"] for _ in range(8)} == {"2"}  # a connection each
        assert running.terminate() == 0
