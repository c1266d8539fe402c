"""What the options of connections do, on real sockets and both transports."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from echo import echo, failure, method
from relay import Relay, relaying
from resnet_client.jobs import MAX_CALL_BYTES
from resnet_proto.limits import MAX_MESSAGE_BYTES
from resnet_server.endpoints.grpc.connections import arguments_of
from resnet_server.settings import Settings
from resnet_server.transport.choice import new_server

SETTINGS = Settings(Path())
MESSAGE = 20_000 * b"x"
ONLY_PLAIN = [("grpc.compression_enabled_algorithms_bitset", 1)]
ONLY_DEFLATE = [("grpc.compression_enabled_algorithms_bitset", 3)]


@pytest.fixture(params=["queue", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@asynccontextmanager
async def echoing(kind: str, settings: Settings, *, channel_options: Any = (), behaviour: Any = echo) -> AsyncIterator[tuple[Relay, Any]]:
    server = new_server(kind, arguments_of(settings)).server
    handler = grpc.unary_unary_rpc_method_handler(behaviour)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Echo": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with relaying(port) as relay:
            options = [("grpc.use_local_subchannel_pool", 1), *channel_options]
            async with grpc.aio.insecure_channel(f"127.0.0.1:{relay.port}", options=options) as channel:
                yield relay, channel
    finally:
        await asyncio.wait_for(server.stop(None), 20)


@pytest.mark.parametrize(
    ("compression", "options", "small"),
    [("none", (), False), ("gzip", (), True), ("gzip", ONLY_DEFLATE, True), ("gzip", ONLY_PLAIN, False)],
)
async def test_answers_are_compressed_for_who_takes_it(kind: str, compression: str, options: Any, small: bool) -> None:
    async with echoing(kind, replace(SETTINGS, compression=compression), channel_options=options) as (relay, channel):
        assert await method(channel, "Echo")(MESSAGE, timeout=20) == MESSAGE
        assert (relay.returned < len(MESSAGE) / 4) is small
        assert len(gzip.compress(MESSAGE)) < len(MESSAGE) / 4


async def test_a_message_above_the_limit_reaches_no_handler(kind: str) -> None:
    """To hand it over would hold every other call up."""
    taken: list[int] = []

    async def take(message: bytes, _: Any) -> bytes:
        taken.append(len(message))
        return b""

    async with echoing(kind, SETTINGS, behaviour=take) as (_, channel):
        call = method(channel, "Echo")
        for size in (MAX_CALL_BYTES, MAX_MESSAGE_BYTES):
            await call(bytes(size), timeout=20)
        refused = await failure(call(bytes(MAX_MESSAGE_BYTES + 1), timeout=20))
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await call(b"x", timeout=20)
        assert taken == [MAX_CALL_BYTES, MAX_MESSAGE_BYTES, 1]
        assert MAX_MESSAGE_BYTES <= 16 << 20


async def test_a_caller_that_is_gone_without_a_word_is_found_out(kind: str) -> None:
    async with echoing(kind, replace(SETTINGS, keepalive_time=0.1, keepalive_timeout=0.1)) as (relay, channel):
        assert await method(channel, "Echo")(b"x", timeout=20) == b"x"  # and no call from here on
        relay.fall_silent()
        await asyncio.wait_for(relay.closed.wait(), 20)


async def test_connections_are_given_up_at_their_age_and_no_call_fails(kind: str) -> None:
    async with echoing(kind, replace(SETTINGS, max_connection_age=0.1)) as (relay, channel):
        while relay.connections < 3:
            assert await method(channel, "Echo")(b"x", timeout=20, wait_for_ready=True) == b"x"


async def test_calls_that_outlive_the_grace_are_cut_off(kind: str) -> None:
    never = asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        await never.wait()
        return request

    settings = replace(SETTINGS, max_connection_age=0.1, max_connection_age_grace=0.1)
    async with echoing(kind, settings, behaviour=wait) as (_, channel):
        error = await failure(method(channel, "Echo")(b"x", timeout=20))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_so_many_calls_at_once_and_no_more(kind: str) -> None:
    running = most = 0
    full = asyncio.Event()

    async def count(request: bytes, context: Any) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 2:
            full.set()
        await full.wait()
        await asyncio.sleep(0)
        running -= 1
        return request

    async with echoing(kind, replace(SETTINGS, max_concurrent_streams=2), behaviour=count) as (_, channel):
        for calls in (2, 20):  # the caller learns of the limit with the first
            assert await asyncio.gather(*(method(channel, "Echo")(b"x", timeout=20) for _ in range(calls))) == calls * [b"x"]
    assert most == 2


def test_what_is_not_given_stays_as_grpc_has_it() -> None:
    assert {name for name, _ in arguments_of(SETTINGS)} == {
        "grpc.max_receive_message_length",
        "grpc.max_send_message_length",
        "grpc.server_handshake_timeout_ms",
        "grpc.default_compression_level",
    }
    assert dict(arguments_of(replace(SETTINGS, keepalive_least=10.0)))["grpc.http2.min_ping_interval_without_data_ms"] == 10_000
