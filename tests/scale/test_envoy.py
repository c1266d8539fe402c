"""Envoy, with the configuration that the project ships, over three real servers."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from balancer import Balancer, poll, running_envoy
from resnet_client import Client
from resnet_proto import open_inference_pb2 as oip
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub
from retrying_load import IMAGES, Logits, RetryingLoad, answers_of, caller
from scraping import counted
from serving import RunningServer, running_server

SMALL = ("--engines", "1", "--threads", "1", "--precision", "fp32")  # else each server measures, and may choose another precision

MANY = np.zeros((64, 32, 32, 3), np.uint8)


@pytest.fixture(scope="module")
def three(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningServer]]:
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        yield [stack.enter_context(running_server(repository, folder / f"log{number}", *SMALL)) for number in range(3)]


@pytest.fixture
def balanced(three: list[RunningServer], tmp_path: Path) -> Iterator[Balancer]:
    with running_envoy(tmp_path, [server.url for server in three]) as balancer:
        yield balancer


def inference(images: "np.ndarray[Any, np.dtype[np.uint8]]") -> oip.ModelInferRequest:
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=images.shape)
    return oip.ModelInferRequest(model_name="resnet20", inputs=[tensor], raw_input_contents=[images.tobytes()])


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
        balancer = stack.enter_context(running_envoy(tmp_path, [killed.url, drained.url, stays.url]))
        client = stack.enter_context(Client(balancer.url))
        with RetryingLoad(caller(client), expected) as load:
            load.wait_for_more(300)
            killed.process.send_signal(signal.SIGKILL)
            load.wait_for_more(300)
            drained.process.send_signal(signal.SIGTERM)
            load.wait_for_more(300)
            assert drained.process.wait(30) == 0
            added = stack.enter_context(running_server(repository, tmp_path / "log3", *SMALL))
            balancer.serve([stays.url, added.url])
            poll(lambda: balancer.healthy() == [stays.url, added.url], "the added server")
            before = counted(added, "resnet_requests_total", method="ModelInfer", status="OK")
            poll(lambda: counted(added, "resnet_requests_total", method="ModelInfer", status="OK") >= before + 150, "its share", 60)
        assert not load.problems


def test_a_server_that_drains_loses_no_call_of_callers_who_never_retry(repository: Path, tmp_path: Path) -> None:
    """It refuses until Envoy has seen that it drains, and Envoy sends those calls elsewhere; nothing is in flight when it ends."""
    with ExitStack() as stack:
        servers = [stack.enter_context(running_server(repository, tmp_path / f"log{n}", *SMALL)) for n in range(2)]
        expected = answers_of(servers[1].url)
        balancer = stack.enter_context(running_envoy(tmp_path, [server.url for server in servers]))
        stub = GRPCInferenceServiceStub(stack.enter_context(grpc.insecure_channel(balancer.url)))

        def call(row: int) -> Logits:
            return np.frombuffer(stub.ModelInfer(inference(IMAGES[row : row + 1]), timeout=30).raw_output_contents[0], "<f4")

        with RetryingLoad(call, expected) as load:
            load.wait_for_more(200)
            servers[0].process.send_signal(signal.SIGTERM)
            assert servers[0].process.wait(30) == 0
            load.wait_for_more(200)
        assert not load.problems


def test_a_deadline_reaches_the_server(three: list[RunningServer], balanced: Balancer) -> None:
    """Only a server that knows the deadline refuses a call because those before it take longer."""
    before = sum(refused_for_their_deadline(server) for server in three)
    with grpc.insecure_channel(balanced.url) as channel:
        stub = GRPCInferenceServiceStub(channel)
        stub.ServerLive(oip.ServerLiveRequest(), wait_for_ready=True)
        queued = [stub.ModelInfer.future(inference(MANY)) for _ in range(24)]
        queued[0].result()
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(inference(MANY), timeout=0.1)
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
        calls = [stub.ModelInfer.future(inference(MANY)) for _ in range(24)]
        calls[0].result()  # by now the others wait at the servers
        for call in calls:
            call.cancel()  # type: ignore[no-untyped-call]  # the stubs leave it untyped
        poll(lambda: sum(counted(server, "resnet_requests_total", status="CANCELLED") for server in three) > before, "cancelled calls")


def test_refused_arguments_are_sent_once(three: list[RunningServer], balanced: Balancer) -> None:
    before = sum(counted(server, "resnet_requests_total", method="ModelInfer", status="INVALID_ARGUMENT") for server in three)
    request = inference(IMAGES[:1])
    request.raw_input_contents[0] = b"short"
    with grpc.insecure_channel(balanced.url) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert sum(counted(server, "resnet_requests_total", method="ModelInfer", status="INVALID_ARGUMENT") for server in three) == before + 1
