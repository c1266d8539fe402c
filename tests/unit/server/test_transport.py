"""The server on the completion queue does what grpc.aio's does: the same tests for both, over real sockets."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from echo import MOST_BYTES, OPTIONS, echo, failure, method, serving, serving_handlers
from resnet_server.transport.choice import new_server


@pytest.fixture(params=["queue", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_many_calls_at_once_each_get_their_own_answer(kind: str) -> None:
    async with serving(kind, Echo=echo) as (_, channel):
        messages = [index.to_bytes(4, "big") * (1 + index % 500) for index in range(4000)]  # gRPC cancels by lot from 1000 on
        answers = await asyncio.gather(*(method(channel, "Echo")(message, timeout=60) for message in messages))
    assert answers == messages


class Asked:
    """gRPC's server; tells whenever it is asked for a call."""

    def __init__(self, server: Any, tell: Callable[[], None]) -> None:
        self._server, self._tell = server, tell

    def request_call(self, *arguments: Any) -> Any:
        self._tell()
        return self._server.request_call(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


async def test_a_loop_that_lags_holds_callers_back_and_serves_them_all_in_the_end() -> None:
    async with serving("queue", Echo=echo) as (server, channel):
        server.most_told = 3
        waiting: list[int] = []
        server._server = Asked(server._server, lambda: waiting.append(len(server._inbox)))
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
    server: Any = new_server(kind, OPTIONS).server
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


async def test_the_handler_knows_deadline_metadata_and_peer(kind: str) -> None:
    async def tell(request: bytes, context: Any) -> bytes:
        left = context.time_remaining()
        name = dict(context.invocation_metadata()).get("name")
        return repr((None if left is None else 50 < left < 61, name, context.peer().split(":")[0])).encode()

    async with serving(kind, Tell=tell) as (_, channel):
        with_deadline = await method(channel, "Tell")(b"", timeout=60, metadata=(("name", "value"),))  # gRPC rounds it up on the wire
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


async def test_initial_metadata_goes_out_before_the_answer(kind: str) -> None:
    async def greet(request: bytes, context: Any) -> bytes:
        await context.send_initial_metadata((("greeting", "hello"),))
        return b"x"

    async with serving(kind, Greet=greet) as (_, channel):
        call = method(channel, "Greet")(b"")
        assert dict(await call.initial_metadata())["greeting"] == "hello"
        assert await call == b"x"
