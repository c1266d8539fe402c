"""Which transport serves, and what happens where gRPC's core is not as we know it."""

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from echo import OPTIONS, failure, method, serving, started
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled; its stubs are empty
from resnet_server.transport import choice
from resnet_server.transport.api import DirectCall
from resnet_server.transport.call import Call
from resnet_server.transport.choice import USED, core_obstacle, new_server
from resnet_server.transport.crowd import Crowd
from resnet_server.transport.method import Method


def test_the_core_that_is_installed_passes_the_check() -> None:
    assert core_obstacle() == ""


@pytest.mark.parametrize(("owner", "name"), [(owner, names[0]) for owner, names in USED.items()])
async def test_a_name_that_is_missing_falls_back_and_says_so(
    owner: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    core = SimpleNamespace(**{key: getattr(cygrpc, key) for key in (*USED[""], *filter(None, USED))})
    if owner:
        setattr(core, owner, SimpleNamespace(**{key: None for key in USED[owner] if key != name}))
    else:
        delattr(core, name)
    monkeypatch.setattr(choice, "import_module", lambda _: core)
    caplog.set_level(logging.WARNING)
    for kind in ("auto", "queue"):
        transport = new_server(kind, OPTIONS)
        assert transport.name == "asyncio"
        assert f"{owner}.{name}".strip(".") in transport.reason
    assert "transport: grpc.aio, because grpcio's core has no" in caplog.text


async def test_another_version_falls_back_and_the_queue_can_still_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "is_measured", lambda: False)
    assert (new_server("auto", OPTIONS).name, new_server("queue", OPTIONS).name) == ("asyncio", "queue")
    assert "none whose core was tested" in new_server("auto", OPTIONS).reason


@pytest.mark.parametrize("kind", ["queue", "asyncio"])
async def test_direct_methods_work_on_every_transport(kind: str) -> None:
    def answer(message: bytes, call: DirectCall) -> None:
        if message == b"no":
            call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "7"),))
        else:
            call.defer(lambda: call.answer(message + b"!"))

    transport = new_server(kind, OPTIONS)
    transport.add_direct_method("/test.Echo/Answer", answer)
    async with started(transport.server) as channel:
        assert await method(channel, "Answer")(b"hello") == b"hello!"
        error = await failure(method(channel, "Answer")(b"no"))
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "7"


@pytest.mark.parametrize("kind", ["queue", "asyncio"])
async def test_who_leaves_a_direct_call_is_noticed_on_every_transport(kind: str) -> None:
    loop, begun, left = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def hold(message: bytes, call: DirectCall) -> None:
        def note() -> None:
            loop.call_soon_threadsafe(left.set)

        call.on_left = note
        loop.call_soon_threadsafe(begun.set)

    transport = new_server(kind, OPTIONS)
    transport.add_direct_method("/test.Echo/Hold", hold)
    async with started(transport.server) as channel:
        call = method(channel, "Hold")(b"")
        await asyncio.wait_for(begun.wait(), 10)
        call.cancel()
        await asyncio.wait_for(left.wait(), 10)


@pytest.mark.parametrize("kind", ["queue", "asyncio"])
async def test_a_message_that_cannot_be_read_is_invalid_on_every_transport(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    def read(message: bytes) -> int:
        return int(message)

    async def double(number: int, context: Any) -> int:
        return 2 * number

    handlers = {"Double": grpc.unary_unary_rpc_method_handler(double, read, lambda number: str(number).encode())}
    server = new_server(kind, OPTIONS).server
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    async with started(server) as channel:
        assert await method(channel, "Double")(b"21") == b"42"
        error = await failure(method(channel, "Double")(b"x"))
    assert (error.code(), error.details()) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "request: 1 bytes that are no message of this method (ValueError)",
    )
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("kind", ["queue", "asyncio"])
@pytest.mark.parametrize("style", ["generator", "coroutine"])
async def test_streams_are_written_in_both_styles_on_every_transport(kind: str, style: str) -> None:
    async def generate(count: int, context: Any) -> AsyncIterator[bytes]:
        for index in range(count):
            yield bytes([index])

    async def write(count: int, context: Any) -> None:
        for index in range(count):
            await context.write(bytes([index]))

    behaviour = generate if style == "generator" else write
    server = new_server(kind, OPTIONS).server
    handlers = {"Count": grpc.unary_stream_rpc_method_handler(behaviour, int)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    async with started(server) as channel:
        call = channel.unary_stream("/test.Echo/Count")
        assert [answer async for answer in call(b"3")] == [b"\x00", b"\x01", b"\x02"]
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(b"x").read()
        assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Refusing:
    """gRPC's call, which refuses every batch of operations."""

    def start_server_batch(self, operations: Any, tag: Any) -> int:
        return 8  # GRPC_CALL_ERROR_TOO_MANY_OPERATIONS


async def test_operations_that_grpc_refuses_strand_nobody(caplog: pytest.LogCaptureFixture) -> None:
    event: Any = SimpleNamespace(call=Refusing(), call_details=SimpleNamespace(deadline=2e12), invocation_metadata=())
    loop = asyncio.get_running_loop()
    home: Any = SimpleNamespace(loop=loop, crowd=Crowd(loop), is_here=lambda: False)
    call = Call(event, Method(grpc.unary_unary_rpc_method_handler(lambda *_: None), direct=True), home)
    left: list[str] = []
    call.on_left = lambda: left.append("left")
    call.open()
    assert left == ["left"]
    assert call.cancelled()
    call.post(lambda: left.append("posted"))
    assert left == ["left", "posted"]
    assert await asyncio.wait_for(call.read(), 10) is grpc.aio.EOF  # type: ignore[attr-defined]  # missing in the stubs
    assert "gRPC refused operations" in caplog.text


@pytest.mark.parametrize("kind", ["queue", "asyncio"])
async def test_the_caller_is_unknown_without_tls(kind: str) -> None:
    async def who(request: bytes, context: Any) -> bytes:
        return repr((context.peer_identities(), context.peer_identity_key())).encode()

    async with serving(kind, Who=who) as (_, channel):
        assert await method(channel, "Who")(b"") == b"(None, None)"
