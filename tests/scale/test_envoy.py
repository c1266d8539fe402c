"""Envoy, with the configuration that the project ships, over three real servers."""

import signal
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import numpy as np
import pytest
from balancer import Balancer, poll, running_envoy
from prometheus_client.parser import text_string_to_metric_families
from resnet_client import Client
from resnet_proto import open_inference_pb2 as oip
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from retrying_load import RetryingLoad, answers_of, caller
from serving import RunningServer, running_server

SMALL = ("--engines", "1", "--threads", "1")


@pytest.fixture(scope="module")
def three(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield [stack.enter_context(running_server(repository, folder / f"log{number}", *SMALL)) for number in range(3)]


@pytest.fixture
def balanced(three: list[RunningServer], tmp_path: Path) -> Iterator[Balancer]:
    with running_envoy(tmp_path, three) as balancer:
        yield balancer


def counted(server: RunningServer, metric: str, **labels: str) -> float:
    """Sum of the samples of a server's metric with these labels."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as page:  # noqa: S310  # our own server
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name == metric]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def inference(rows: int) -> oip.ModelInferRequest:
    image = oip.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[rows, 32, 32, 3])
    return oip.ModelInferRequest(
        model_name="resnet20", inputs=[image], raw_input_contents=[np.zeros((rows, 32, 32, 3), np.uint8).tobytes()]
    )


def test_load_spreads_within_a_tenth(three: list[RunningServer], balanced: Balancer) -> None:
    before = [counted(server, "resnet_requests_total", method="ModelInfer", status="OK") for server in three]
    expected = answers_of(three[0].url)
    with Client(balanced.url) as client, RetryingLoad(caller(client), expected) as load:
        load.wait_for_more(3000)
    after = [counted(server, "resnet_requests_total", method="ModelInfer", status="OK") for server in three]
    calls = np.array(after) - np.array(before) - [1, 0, 0]
    assert not load.problems
    assert calls.sum() == load.answered
    assert np.abs(calls / calls.mean() - 1).max() <= 0.1, calls


def test_a_killed_a_drained_and_an_added_server_lose_no_call(repository: Path, tmp_path: Path) -> None:
    with ExitStack() as stack:
        killed, drained, stays = [stack.enter_context(running_server(repository, tmp_path / f"log{n}", *SMALL)) for n in range(3)]
        expected = answers_of(stays.url)
        balancer = stack.enter_context(running_envoy(tmp_path, [killed, drained, stays]))
        client = stack.enter_context(Client(balancer.url))
        with RetryingLoad(caller(client), expected) as load:
            load.wait_for_more(300)
            killed.process.send_signal(signal.SIGKILL)
            load.wait_for_more(300)
            drained.process.send_signal(signal.SIGTERM)
            load.wait_for_more(300)
            assert drained.process.wait(30) == 0
            added = stack.enter_context(running_server(repository, tmp_path / "log3", *SMALL))
            balancer.serve([stays, added])
            poll(lambda: balancer.healthy() == [stays.url, added.url], "the added server")
            before = counted(added, "resnet_requests_total", method="ModelInfer", status="OK")
            load.wait_for_more(600)
        assert not load.problems
        assert counted(added, "resnet_requests_total", method="ModelInfer", status="OK") - before >= 150


def test_a_deadline_reaches_the_server(three: list[RunningServer], balanced: Balancer) -> None:
    """Only a server that knows the deadline refuses a call because those before it take longer."""
    before = sum(refused_for_their_deadline(server) for server in three)
    with grpc.insecure_channel(balanced.url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ServerLive(oip.ServerLiveRequest(), wait_for_ready=True)
        queued = [stub.ModelInfer.future(inference(64)) for _ in range(24)]
        queued[0].result()
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(inference(64), timeout=0.1)
        assert caught.value.code() in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED}
        poll(lambda: sum(refused_for_their_deadline(server) for server in three) == before + 1, "the refusal")
        assert all(call.result() for call in queued)


def refused_for_their_deadline(server: RunningServer) -> float:
    return sum(counted(server, "resnet_rejects_total", reason=reason) for reason in ("late", "unreachable", "deadline"))


def test_a_cancelled_call_is_cancelled_at_the_server(three: list[RunningServer], balanced: Balancer) -> None:
    before = sum(counted(server, "resnet_requests_total", status="CANCELLED") for server in three)
    with grpc.insecure_channel(balanced.url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ServerLive(oip.ServerLiveRequest(), wait_for_ready=True)
        calls = [stub.ModelInfer.future(inference(64)) for _ in range(24)]
        calls[0].result()  # by now the others wait at the servers
        for call in calls:
            call.cancel()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        poll(lambda: sum(counted(server, "resnet_requests_total", status="CANCELLED") for server in three) > before, "cancelled calls")


def test_refused_arguments_are_sent_once(three: list[RunningServer], balanced: Balancer) -> None:
    before = sum(counted(server, "resnet_requests_total", method="ModelInfer", status="INVALID_ARGUMENT") for server in three)
    request = inference(1)
    request.raw_input_contents[0] = b"short"
    with grpc.insecure_channel(balanced.url) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sum(counted(server, "resnet_requests_total", method="ModelInfer", status="INVALID_ARGUMENT") for server in three) == before + 1
