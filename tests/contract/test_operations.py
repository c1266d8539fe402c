"""What operators rely on: health, reflection, metrics."""

import itertools
import urllib.request
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from prometheus_client.parser import text_string_to_metric_families
from resnet_models.sample import load_sample
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from resnet_server.endpoints.grpc.health import MOST_WATCHERS
from serving import RunningServer

SERVICES = ("inference.GRPCInferenceService", "resnet.v1.Classifier")


@pytest.mark.parametrize("service", ["", *SERVICES, "resnet20", "resnet20/1", "liveness"])
def test_health_is_serving(service: str, channel: grpc.Channel) -> None:
    answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("service", ["resnet21", "resnet20/2", "/", "n" * 10_000])
def test_health_of_an_unknown_name_is_not_found(service: str, channel: grpc.Channel) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    with pytest.raises(grpc.RpcError) as error:
        stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=service))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN  # as the protocol asks: it may come
    watch.cancel()


def test_watchers_are_bounded_and_their_places_come_free(channel: grpc.Channel) -> None:
    stub, request = health_pb2_grpc.HealthStub(channel), health_pb2.HealthCheckRequest()
    watches = [stub.Watch(request) for _ in range(MOST_WATCHERS)]
    assert {next(watch).status for watch in watches} == {health_pb2.HealthCheckResponse.SERVING}
    with pytest.raises(grpc.RpcError) as error:
        next(stub.Watch(request))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    for watch in watches:
        watch.cancel()
    assert stub.Check(request).status == health_pb2.HealthCheckResponse.SERVING


def test_every_series_is_there_before_its_first_call(server: RunningServer) -> None:
    page = scrape(server)
    model = (("model", "resnet20"), ("version", "1"))
    for method in ("ModelInfer", "Classify"):
        for status in ("OK", "INTERNAL", "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED", "INVALID_ARGUMENT", "CANCELLED"):
            assert ("resnet_requests_total", tuple(sorted((*model, ("method", method), ("status", status))))) in page
    for reason in ("queue_full", "late", "deadline", "engine_died", "unavailable"):
        assert ("resnet_rejects_total", tuple(sorted((*model, ("reason", reason))))) in page


def test_only_answers_are_timed(server: RunningServer, channel: grpc.Channel) -> None:
    count = ("resnet_request_seconds_count", (("method", "ModelInfer"), ("model", "resnet20"), ("version", "1")))
    before = scrape(server)[count]
    request = pb.ModelInferRequest(model_name="resnet20")
    with pytest.raises(grpc.RpcError):
        GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert scrape(server)[count] == before


def test_what_callers_hold_is_a_metric_with_its_limit(server: RunningServer) -> None:
    page = scrape(server)
    for kind in ("messages", "images"):
        assert page["resnet_held_bytes", (("kind", kind),)] == 0
        assert page["resnet_held_bytes_limit", (("kind", kind),)] == 512 << 20


def test_reflection_lists_and_describes_the_services(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(SERVICES) <= set(database.get_services())
    for service in database.get_services():
        pool: Any = DescriptorPool(database)  # fetches what a message needs, from the server alone; untyped in the stubs
        assert pool.FindServiceByName(service).methods
    manifest = pool.FindMessageTypeByName("resnet.v1.ServedModel").fields_by_name["manifest"]
    assert "artifacts" in manifest.message_type.fields_by_name


def scrape(server: RunningServer) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urllib.request.urlopen(server.metrics_url) as page:  # noqa: S310  # http, from the fixture
        text = page.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_caller_that_leaves_is_counted_as_cancelled(server: RunningServer, channel: grpc.Channel) -> None:
    stub = GRPCInferenceServiceStub(channel)
    labels = (("method", "ModelInfer"), ("model", "resnet20"), ("status", "CANCELLED"), ("version", "1"))
    reasons = (("model", "resnet20"), ("reason", "cancelled"), ("version", "1"))
    counts = (("resnet_requests_total", labels), ("resnet_rejects_total", reasons))
    request = pb.ModelInferRequest(model_name="resnet20")
    request.inputs.add(name="image", datatype="UINT8", shape=(64, 32, 32, 3))
    request.raw_input_contents.append(load_sample().images[:64].tobytes())
    before = scrape(server)
    for _ in range(20):  # whether it is taken in before it leaves is a matter of luck
        calls = [stub.ModelInfer.future(request) for _ in range(8)]
        scrape(server)
        left = calls[-1].cancel()  # type: ignore[no-untyped-call]  # the stubs have no types for it
        for call in calls[:-1]:
            assert len(call.result().raw_output_contents) == 1
        after = scrape(server)
        counted = [after.get(count, 0) - before.get(count, 0) for count in counts]
        assert counted[0] == counted[1]
        if left and counted[0]:
            return
    raise AssertionError("none of 20 calls that left was counted")


def test_metrics_count_and_time_each_call(server: RunningServer, channel: grpc.Channel) -> None:
    stub = GRPCInferenceServiceStub(channel)
    model = (("model", "resnet20"), ("version", "1"))
    counted = ("resnet_requests_total", tuple(sorted((*model, ("method", "ModelInfer"), ("status", "OK")))))
    failed = ("resnet_requests_total", (("method", "ModelInfer"), ("model", ""), ("status", "NOT_FOUND"), ("version", "")))
    computed = tuple(sorted((*model, ("precision", "fp32"))))
    rows = ("resnet_images_total", computed)
    before = scrape(server)
    request = pb.ModelInferRequest(model_name="resnet20")
    request.inputs.add(name="image", datatype="UINT8", shape=(3, 32, 32, 3))
    request.raw_input_contents.append(load_sample().images[:3].tobytes())
    stub.ModelInfer(request)
    with pytest.raises(grpc.RpcError):
        stub.ModelInfer(pb.ModelInferRequest(model_name="a name that must not become a label"))
    after = scrape(server)
    assert after[counted] - before.get(counted, 0) == 1
    assert after[failed] - before.get(failed, 0) == 1
    assert after[rows] - before.get(rows, 0) == 3
    for name, count in (("resnet_queue_seconds_count", 1), ("resnet_batch_rows_sum", 3)):
        assert after[name, computed] - before.get((name, computed), 0) == count
    batches = after["resnet_batch_rows_count", computed] - before.get(("resnet_batch_rows_count", computed), 0)
    for name in ("resnet_compute_seconds_count", "resnet_batch_prediction_error_seconds_count"):
        assert 1 <= after[name, computed] - before.get((name, computed), 0) == batches <= 3
    assert not [labels for _, labels in after if ("model", "a name that must not become a label") in labels]


def test_buckets_resolve_half_a_millisecond_to_ten_seconds(server: RunningServer) -> None:
    edges = sorted({float(dict(labels)["le"]) for name, labels in scrape(server) if name == "resnet_compute_seconds_bucket"})
    assert edges[0] == 0.0005
    assert edges[-2] == 10
    assert all(high <= 2.5 * low for low, high in itertools.pairwise(edges[:-1]))


def test_model_information_is_a_metric(server: RunningServer) -> None:
    info = [dict(labels) for (name, labels), value in scrape(server).items() if name == "resnet_model_info" and value == 1]
    assert [(row["model"], row["variant"], row["precision"], row["certified"]) for row in info] == [
        ("resnet20", "resnet20", "fp32", "true")
    ]
    agreement = [value for (name, _), value in scrape(server).items() if name == "resnet_certificate_top1_agreement"]
    assert agreement == [1.0]
