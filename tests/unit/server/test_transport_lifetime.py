"""Streams, callers that leave, and the server's end: the same tests for both kinds of server, over real sockets."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from echo import OPTIONS, echo, failure, method, serving, serving_handlers
from resnet_server.transport import choice
from resnet_server.transport.choice import new_server
from resnet_server.transport.server import QueueServer

CALLERS = Path(__file__).parents[2] / "support" / "closed_loops.py"
unary = grpc.unary_unary_rpc_method_handler


@pytest.fixture(params=["queue", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_a_caller_that_leaves_cancels_its_handler(kind: str, how: str) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    seen: list[bool] = []

    async def wait(request: bytes, context: Any) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(True)
            raise
        finally:
            ended.set()
        return b""

    async with serving(kind, Wait=wait, Echo=echo) as (_, channel):
        call = method(channel, "Wait")(b"", timeout=0.3 if how == "deadline" else None)
        await asyncio.wait_for(begun.wait(), 10)
        if how == "cancel":
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        else:
            assert (await failure(call)).code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(ended.wait(), 10)
        assert seen == [True]
        assert await method(channel, "Echo")(b"x") == b"x"


async def test_calls_that_come_and_go_leave_nothing_that_keeps_the_server_from_ending(kind: str) -> None:
    arrived: asyncio.Queue[int] = asyncio.Queue()
    gates = [asyncio.Event() for _ in range(200)]

    async def wait(request: bytes, context: Any) -> bytes:
        arrived.put_nowait(request[0])
        await gates[request[0]].wait()
        return request

    async with serving(kind, Wait=wait) as (server, channel):
        calls = [method(channel, "Wait")(bytes([index])) for index in range(200)]
        for _ in range(150):  # the rest is cancelled or answered on its way in
            await arrived.get()
        for call in calls[::2]:
            call.cancel()
        for gate in gates:
            gate.set()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert answers[1::2] == [bytes([index]) for index in range(1, 200, 2)]
        assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])
        await asyncio.wait_for(server.stop(20), 5)  # at once: nothing is left to wait for


async def test_streams_in_all_directions(kind: str) -> None:
    async def count(request: bytes, context: Any) -> AsyncIterator[bytes]:
        for index in range(int(request)):
            yield str(index).encode()

    async def count_by_writing(request: bytes, context: Any) -> None:
        for index in range(int(request)):
            await context.write(str(index).encode())

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return b",".join([request async for request in requests])

    async def upper(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request.upper()

    handlers = {
        "Count": grpc.unary_stream_rpc_method_handler(count),
        "Write": grpc.unary_stream_rpc_method_handler(count_by_writing),
        "Join": grpc.stream_unary_rpc_method_handler(join),
        "Upper": grpc.stream_stream_rpc_method_handler(upper),
    }
    words = [b"one", b"two", b"three"]
    async with serving_handlers(kind, handlers) as (_, channel):
        for name in ("Count", "Write"):
            assert [answer async for answer in channel.unary_stream(f"/test.Echo/{name}")(b"5")] == [b"0", b"1", b"2", b"3", b"4"]
        assert await channel.stream_unary("/test.Echo/Join")(iter(words)) == b"one,two,three"
        assert [answer async for answer in channel.stream_stream("/test.Echo/Upper")(iter(words))] == [word.upper() for word in words]


async def test_a_stream_ends_when_its_caller_leaves(kind: str) -> None:
    ended = asyncio.Event()

    async def for_ever(request: bytes, context: Any) -> None:
        try:
            await context.write(b"one")
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving_handlers(kind, {"Watch": grpc.unary_stream_rpc_method_handler(for_ever)}) as (_, channel):
        call = channel.unary_stream("/test.Echo/Watch")(b"")
        assert await call.read() == b"one"
        call.cancel()
        await asyncio.wait_for(ended.wait(), 10)


async def test_stopping_waits_for_what_runs_and_takes_nothing_new(kind: str) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        begun.set()
        await go_on.wait()
        return b"done"

    async with serving(kind, Wait=wait) as (server, channel):
        call = method(channel, "Wait")(b"")
        await asyncio.wait_for(begun.wait(), 10)
        stopping = [asyncio.ensure_future(server.stop(20)) for _ in range(2)]
        assert await server.wait_for_termination(0.2)  # True: the time ran out
        error = await failure(method(channel, "Wait")(b"", timeout=5, wait_for_ready=False))
        assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        if kind == "queue":
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        go_on.set()
        assert await call == b"done"
        await asyncio.wait_for(asyncio.gather(*stopping), 10)
        assert not await server.wait_for_termination()


@pytest.mark.parametrize("attempt", range(5))
async def test_no_call_is_cancelled_that_comes_while_the_server_stops(attempt: int) -> None:
    """gRPC ends CANCELLED what it has taken in and nobody has asked for; no caller repeats that."""
    server = new_server("queue", OPTIONS).server
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": unary(echo)}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    callers = await asyncio.create_subprocess_exec(sys.executable, CALLERS, str(port), "8", stdout=PIPE, stderr=PIPE)
    assert callers.stdout is not None
    assert await asyncio.wait_for(callers.stdout.readline(), 30) == b"calling\n"
    await asyncio.wait_for(server.stop(20), 10)
    ends = json.loads(await asyncio.wait_for(callers.stdout.read(), 10))
    await callers.wait()
    assert set(ends) <= {"OK", "UNAVAILABLE"}, ends


async def test_stopping_cancels_what_takes_longer(kind: str) -> None:
    begun = asyncio.Event()

    async def for_ever(request: bytes, context: Any) -> bytes:
        begun.set()
        await asyncio.Event().wait()
        return b""

    async with serving(kind, Wait=for_ever) as (server, channel):
        call = method(channel, "Wait")(b"")
        await asyncio.wait_for(begun.wait(), 10)
        await asyncio.wait_for(server.stop(0.1), 10)
        assert (await failure(call)).code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_port_in_use_is_an_error(kind: str) -> None:
    first, second = (new_server(kind, [("grpc.so_reuseport", 0)]).server for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.add_insecure_port(f"127.0.0.1:{port}")


async def test_a_server_that_was_never_started_can_be_left_alone() -> None:
    server = QueueServer()
    assert server.add_insecure_port("127.0.0.1:0") > 0


async def test_only_a_version_that_was_tested_gets_the_queue_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_measured", lambda: False)
    assert not isinstance(new_server("auto", OPTIONS).server, QueueServer)
    assert isinstance(new_server("queue", OPTIONS).server, QueueServer)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    assert isinstance(new_server("auto", OPTIONS).server, QueueServer)
    assert not isinstance(new_server("asyncio", OPTIONS).server, QueueServer)
