"""The server on the completion queue does what grpc.aio's does: the same tests for both, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from resnet_server.transport import choice
from resnet_server.transport.choice import new_server
from resnet_server.transport.server import QueueServer

MOST_BYTES = 100_000
OPTIONS = [("grpc.max_receive_message_length", MOST_BYTES)]
Behaviour = Callable[[Any, Any], Any]


@pytest.fixture(params=["queue", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def serving(kind: str, **unary: Behaviour) -> AsyncIterator[tuple[Any, Any]]:
    """A server with these methods of service `test.Echo`, all unary, and a channel to it."""
    async with serving_handlers(kind, {name: grpc.unary_unary_rpc_method_handler(function) for name, function in unary.items()}) as both:
        yield both


@asynccontextmanager
async def serving_handlers(kind: str, handlers: dict[str, Any]) -> AsyncIterator[tuple[Any, Any]]:
    server = new_server(kind, OPTIONS)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await asyncio.wait_for(server.stop(None), 20)


def method(channel: Any, name: str) -> Any:
    return channel.unary_unary(f"/test.Echo/{name}")


async def failure(call: Awaitable[Any]) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value


async def echo(request: bytes, context: Any) -> bytes:
    await asyncio.sleep(0)
    return request


async def test_many_calls_at_once_each_get_their_own_answer(kind: str) -> None:
    async with serving(kind, Echo=echo) as (_, channel):
        messages = [index.to_bytes(4, "big") * (1 + index % 500) for index in range(4000)]  # gRPC cancels by lot from 1000 on
        answers = await asyncio.gather(*(method(channel, "Echo")(message, timeout=60) for message in messages))
    assert answers == messages


async def test_a_loop_that_lags_holds_callers_back_and_serves_them_all_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueueServer, "most_told", 3)
    async with serving("queue", Echo=echo) as (server, channel):
        waiting: list[int] = []
        take = server._take_next

        def counted() -> None:
            waiting.append(len(server._inbox))
            take()

        server._take_next = counted
        messages = [index.to_bytes(4, "big") for index in range(1000)]
        assert await asyncio.gather(*(method(channel, "Echo")(message, timeout=60) for message in messages)) == messages
        unknown = await asyncio.gather(*(failure(method(channel, "Nothing")(b"")) for _ in range(20)))
        assert {error.code() for error in unknown} == {grpc.StatusCode.UNIMPLEMENTED}
    assert max(waiting) < 3


async def test_messages_pass_through_the_handlers_own_reader_and_writer(kind: str) -> None:
    async def double(request: int, context: Any) -> int:
        return 2 * request

    handler = grpc.unary_unary_rpc_method_handler(double, int, lambda answer: str(answer).encode())
    async with serving_handlers(kind, {"Double": handler}) as (_, channel):
        assert await method(channel, "Double")(b"21") == b"42"


async def test_an_empty_message_is_a_message(kind: str) -> None:
    async with serving(kind, Echo=echo) as (_, channel):
        assert await method(channel, "Echo")(b"") == b""


async def test_registered_methods_are_found(kind: str) -> None:
    server: Any = new_server(kind, OPTIONS)
    server.add_registered_method_handlers("test.Other", {"Echo": grpc.unary_unary_rpc_method_handler(echo)})
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channel: Any
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert await channel.unary_unary("/test.Other/Echo")(b"x") == b"x"
    await server.stop(None)


async def test_an_unknown_method_is_unimplemented_and_the_next_call_works(kind: str) -> None:
    async with serving(kind, Echo=echo) as (_, channel):
        assert (await failure(method(channel, "Nothing")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED
        assert (await failure(channel.unary_unary("/other.Service/Echo")(b""))).code() is grpc.StatusCode.UNIMPLEMENTED
        assert await method(channel, "Echo")(b"x") == b"x"


async def test_abort_sends_code_text_and_trailing_metadata_and_ends_the_handler(kind: str) -> None:
    went_on: list[bool] = []

    async def refuse(request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("grpc-retry-pushback-ms", "7"),))
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "späť neskôr")
        went_on.append(True)
        return b""

    async with serving(kind, Refuse=refuse) as (_, channel):
        error = await failure(method(channel, "Refuse")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "späť neskôr")
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "7"
    assert not went_on


async def test_set_code_and_details_become_the_status(kind: str) -> None:
    async def not_there(request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("nothing here")
        assert (context.code(), context.details()) != (grpc.StatusCode.OK, "")
        return b""

    async with serving(kind, Get=not_there) as (_, channel):
        error = await failure(method(channel, "Get")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "nothing here")


async def test_a_handler_that_fails_costs_its_own_call_only(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: bytes, context: Any) -> bytes:
        raise ZeroDivisionError("with a secret")

    caplog.set_level(logging.ERROR)
    async with serving(kind, Fail=fail, Echo=echo) as (_, channel):
        error = await failure(method(channel, "Fail")(b""))
        assert await method(channel, "Echo")(b"x") == b"x"
    assert error.code() is grpc.StatusCode.UNKNOWN
    if kind == "queue":
        assert "secret" not in str(error.details())
        assert any("a handler failed" in record.getMessage() and record.exc_info for record in caplog.records)


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


async def test_the_handler_knows_deadline_metadata_and_peer(kind: str) -> None:
    async def tell(request: bytes, context: Any) -> bytes:
        left = context.time_remaining()
        name = dict(context.invocation_metadata()).get("name")
        return repr((None if left is None else 4 < left <= 5, name, context.peer().split(":")[0])).encode()

    async with serving(kind, Tell=tell) as (_, channel):
        with_deadline = await method(channel, "Tell")(b"", timeout=5, metadata=(("name", "value"),))
        without = await method(channel, "Tell")(b"")
    assert with_deadline == b"(True, 'value', 'ipv4')"
    assert without == b"(None, None, 'ipv4')"


async def test_a_message_beyond_the_limit_is_refused_and_the_channel_lives(kind: str) -> None:
    async with serving(kind, Echo=echo) as (_, channel):
        error = await failure(method(channel, "Echo")(bytes(MOST_BYTES + 1)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(await method(channel, "Echo")(bytes(MOST_BYTES))) == MOST_BYTES


async def test_a_call_without_its_message_is_answered() -> None:
    async with serving("queue", Echo=echo) as (_, channel):
        error = await failure(channel.stream_unary("/test.Echo/Echo")(iter(()), timeout=10))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "exactly one request message" in str(error.details())


async def test_bytes_that_are_no_message_are_the_callers_mistake(caplog: pytest.LogCaptureFixture) -> None:
    handler = grpc.unary_unary_rpc_method_handler(echo, int, str)
    async with serving_handlers("queue", {"Double": handler}) as (_, channel):
        error = await failure(method(channel, "Double")(b"twelve"))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "6 bytes that are no message" in error.details()
    assert not caplog.records


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


async def test_initial_metadata_goes_out_before_the_answer(kind: str) -> None:
    async def greet(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("greeting", "hello"),))
        return b"x"

    async with serving(kind, Greet=greet) as (_, channel):
        call = method(channel, "Greet")(b"")
        assert dict(await call.initial_metadata())["greeting"] == "hello"
        assert await call == b"x"


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
        go_on.set()
        assert await call == b"done"
        await asyncio.wait_for(asyncio.gather(*stopping), 10)
        assert not await server.wait_for_termination()


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
    first, second = (new_server(kind, [("grpc.so_reuseport", 0)]) for _ in range(2))
    port = first.add_insecure_port("127.0.0.1:0")
    with pytest.raises(RuntimeError):
        second.add_insecure_port(f"127.0.0.1:{port}")


async def test_a_server_that_was_never_started_can_be_left_alone() -> None:
    server = QueueServer()
    assert server.add_insecure_port("127.0.0.1:0") > 0


async def test_only_a_version_that_was_tested_gets_the_queue_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_measured", lambda: False)
    assert not isinstance(new_server("auto", OPTIONS), QueueServer)
    assert isinstance(new_server("queue", OPTIONS), QueueServer)
    monkeypatch.setattr(choice, "is_measured", lambda: True)
    assert isinstance(new_server("auto", OPTIONS), QueueServer)
    assert not isinstance(new_server("asyncio", OPTIONS), QueueServer)
