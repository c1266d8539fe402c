"""ModelStreamInfer on both transports, over real sockets, in front of inferences that end when the test says so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from echo import started
from resnet_proto import open_inference_pb2 as pb
from resnet_server.endpoints.grpc.methods import add_service
from resnet_server.endpoints.grpc.stream_infer import MOST_IN_FLIGHT, StreamInferService
from resnet_server.models.registry import Registry
from resnet_server.transport.api import DirectCall
from resnet_server.transport.choice import new_server

PATH = "/inference.GRPCInferenceService/ModelStreamInfer"


PASSING = "passing"


class Infer:
    """Takes requests; each waits to be answered by the test, but for those that are called PASSING."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, DirectCall]] = []
        self.left: list[str] = []
        self.changed = asyncio.Event()

    def __call__(self, message: bytes, call: DirectCall) -> None:
        name = pb.ModelInferRequest.FromString(message).id
        if name == PASSING:
            call.answer(pb.ModelInferResponse(id=name).SerializeToString())
            return
        self.taken.append((name, call))
        call.on_left = lambda: self._leave(name)
        self.changed.set()

    def answer(self, index: int) -> None:
        name, call = self.taken[index]
        call.answer(pb.ModelInferResponse(id=name, model_name="net").SerializeToString())

    async def until(self, taken: int = 0, left: int = 0) -> None:
        async with asyncio.timeout(20):
            while len(self.taken) < taken or len(self.left) < left:
                self.changed.clear()
                await self.changed.wait()

    def _leave(self, name: str) -> None:
        self.left.append(name)
        self.changed.set()


@pytest.fixture(params=["queue", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def serving(kind: str) -> AsyncIterator[tuple[Infer, Registry, Any]]:
    infer, registry = Infer(), Registry()
    registry.state = "ready"
    server = new_server(kind, []).server
    service = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    add_service(server, service, StreamInferService(registry, infer, infer), serialised=("ModelStreamInfer",))
    async with started(server) as channel:
        yield infer, registry, channel.stream_stream(PATH, pb.ModelInferRequest.SerializeToString, pb.ModelStreamInferResponse.FromString)


async def requests(count: int) -> AsyncIterator[pb.ModelInferRequest]:
    for index in range(count):
        yield pb.ModelInferRequest(id=str(index))


async def pass_by(stream: Any) -> None:
    """Return when the server has had every occasion to read what other streams have sent."""
    for _ in range(10):
        assert await rest(stream(iter([pb.ModelInferRequest(id=PASSING)]))) == [PASSING]


async def rest(call: Any) -> list[str]:
    """What it still answers, by the names."""
    names = []
    while (answer := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
        names.append(answer.infer_response.id)
    return names


async def test_answers_come_in_the_order_of_the_requests_and_errors_end_their_own_only(kind: str) -> None:
    async with serving(kind) as (infer, _, stream):
        call = stream(requests(5))
        await infer.until(taken=5)
        for index in (4, 2, 0):
            infer.answer(index)
        infer.taken[3][1].refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", (("grpc-retry-pushback-ms", "30"),))
        infer.taken[1][1].refuse(grpc.StatusCode.INVALID_ARGUMENT, "")
        answers = [answer async for answer in call]
        assert await call.code() is grpc.StatusCode.OK
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2", "3", "4"]
    assert [answer.error_message for answer in answers] == ["", "INVALID_ARGUMENT", "", "the queue is full", ""]
    assert all(answer.infer_response.parameters["triton_final_response"].bool_param for answer in answers)
    assert answers[3].infer_response.parameters["status"].string_param == "RESOURCE_EXHAUSTED"
    assert answers[3].infer_response.parameters["retry_after_ms"].int64_param == 30


async def test_no_more_are_taken_in_than_a_stream_may_have_in_flight(kind: str) -> None:
    async with serving(kind) as (infer, _, stream):
        call = stream(requests(MOST_IN_FLIGHT + 5))
        await infer.until(taken=MOST_IN_FLIGHT)
        infer.answer(1)  # it waits for the first, and so does its place
        await pass_by(stream)
        assert len(infer.taken) == MOST_IN_FLIGHT
        infer.answer(0)
        assert (await call.read()).infer_response.id == "0"
        await infer.until(taken=MOST_IN_FLIGHT + 2)
        await pass_by(stream)
        assert len(infer.taken) == MOST_IN_FLIGHT + 2
        for index in range(2, MOST_IN_FLIGHT + 2):
            infer.answer(index)
        await infer.until(taken=MOST_IN_FLIGHT + 5)
        for index in range(MOST_IN_FLIGHT + 2, MOST_IN_FLIGHT + 5):
            infer.answer(index)
        assert len(await rest(call)) == MOST_IN_FLIGHT + 4
        assert infer.left == []


async def test_a_caller_that_leaves_or_whose_deadline_passes_gives_up_all_it_has_in_flight(kind: str) -> None:
    async with serving(kind) as (infer, _, stream):
        call = stream(requests(3))
        await infer.until(taken=3)
        call.cancel()
        await infer.until(left=3)
        assert sorted(infer.left) == ["0", "1", "2"]
        late = stream(requests(1), timeout=0.5)
        await infer.until(taken=4)
        remaining = infer.taken[3][1].time_remaining()
        assert remaining is not None
        assert 0 < remaining < 1
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await late.read()
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await infer.until(left=4)


async def test_a_server_that_drains_answers_what_it_took_in_and_ends_every_stream(kind: str) -> None:
    async with serving(kind) as (infer, registry, stream):
        idle, busy = stream(), stream()
        await busy.write(pb.ModelInferRequest(id="7"))
        await infer.until(taken=1)
        registry.state = "draining"
        infer.answer(0)
        assert (await busy.read()).infer_response.id == "7"
        for call in (idle, busy):
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await call.read()
            assert error.value.code() is grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in str(error.value.details())


async def test_streams_are_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resnet_server.endpoints.grpc.stream_infer.MOST_STREAMS", 1)
    async with serving(kind) as (infer, _, stream):
        first = stream()
        await first.write(pb.ModelInferRequest(id="1"))
        await infer.until(taken=1)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream(requests(0)).read()
        assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        infer.answer(0)
        await first.done_writing()
        assert await rest(first) == ["1"]
        again = stream(requests(1))
        await infer.until(taken=2)
        infer.answer(1)
        assert await rest(again) == ["0"]


async def test_bytes_that_are_no_request_have_no_identity(kind: str) -> None:
    async with serving(kind) as (infer, _, stream):
        call = stream()
        await call.write(pb.ModelInferRequest(model_name="x"))
        await infer.until(taken=1)
        infer.taken[0][1].refuse(grpc.StatusCode.NOT_FOUND, "unknown")
        answer = await call.read()
        assert (answer.error_message, answer.infer_response.id) == ("unknown", "")
        await call.done_writing()
        assert await rest(call) == []
