"""A gRPC server of a given kind with a few methods, and a channel to it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from resnet_server.transport.choice import new_server

MOST_BYTES = 100_000
OPTIONS = [("grpc.max_receive_message_length", MOST_BYTES)]
Behaviour = Callable[[Any, Any], Any]


@asynccontextmanager
async def serving(kind: str, **unary: Behaviour) -> AsyncIterator[tuple[Any, Any]]:
    """A server with these methods of service `test.Echo`, all unary, and a channel to it."""
    async with serving_handlers(kind, {name: grpc.unary_unary_rpc_method_handler(function) for name, function in unary.items()}) as both:
        yield both


@asynccontextmanager
async def serving_handlers(kind: str, handlers: dict[str, Any]) -> AsyncIterator[tuple[Any, Any]]:
    server = new_server(kind, OPTIONS).server
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    async with started(server) as channel:
        yield server, channel


@asynccontextmanager
async def started(server: Any) -> AsyncIterator[Any]:
    """A channel to a server that is started here, and stopped at the end."""
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
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
