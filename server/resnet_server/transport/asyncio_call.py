"""The fallback: calls of `grpc.aio` as direct methods see them, and requests that cannot be read answered INVALID_ARGUMENT."""

import asyncio
import inspect
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from resnet_server.transport.api import DirectMethod, Entry, Guard, Metadata, Refused

Ended = bytes | Refused


class AsyncioCall:
    """See `DirectCall`; lives on the event loop where it is made."""

    def __init__(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        self.arrived = time.monotonic()
        self.on_left: Callable[[], None] | None = None
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.ended: asyncio.Future[Ended] = self._loop.create_future()

    def answer(self, message: bytes) -> None:
        """See `DirectCall.answer`."""
        self.post(lambda: self._end(message))

    def refuse(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> None:
        """See `DirectCall.refuse`."""
        self.post(lambda: self._end((code, details, trailing_metadata)))

    def time_remaining(self) -> float | None:
        """See `DirectCall.time_remaining`."""
        remaining: float | None = self._context.time_remaining()
        return remaining

    def post(self, work: Callable[[], None]) -> None:
        """See `DirectCall.post`."""
        if threading.get_ident() == self._thread:
            work()
        else:
            self._loop.call_soon_threadsafe(work)

    def defer(self, work: Callable[[], None]) -> None:
        """See `DirectCall.defer`."""
        self._loop.call_soon(work)

    def invocation_metadata(self) -> Any:
        """See `DirectCall.invocation_metadata`."""
        return self._context.invocation_metadata()

    def peer(self) -> str:
        """See `DirectCall.peer`."""
        return str(self._context.peer())

    def left(self) -> None:
        """Nobody waits for the answer any more."""
        on_left, self.on_left = self.on_left, None
        if on_left is not None:
            on_left()

    def _end(self, how: Ended) -> None:
        self.on_left = None
        if not self.ended.done():
            self.ended.set_result(how)


def direct_handler(method: DirectMethod) -> "grpc.RpcMethodHandler[Any, Any]":
    """A handler for `grpc.aio`, both messages in serialised form, that runs a direct method."""

    async def handle(message: bytes, context: Any) -> bytes:
        call = AsyncioCall(context)
        method(message, call)
        try:
            ended = await call.ended
        except asyncio.CancelledError:
            call.left()
            raise
        if isinstance(ended, bytes):
            return ended
        await context.abort(*ended)
        raise AssertionError("unreachable: abort raises")

    return grpc.unary_unary_rpc_method_handler(handle)


def add_direct_method(server: grpc.aio.Server, path: str, method: DirectMethod) -> None:
    """See `Transport`."""
    service, _, name = path[1:].rpartition("/")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {name: direct_handler(method)}),))


Continuation = Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any] | None"]]


class Guarded(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Has `guard` stand before the methods that the server has."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._entries: dict[str, Entry | None] = {}

    async def intercept_service(self, continuation: Continuation, handler_call_details: Any) -> Any:
        """A handler that turns the call away, in the place of one that would read it."""
        handler, path = await continuation(handler_call_details), handler_call_details.method
        if handler is None:
            return None
        if path not in self._entries:  # a method of ours: these are few
            self._entries[path] = self._guard(path)
        entry = self._entries[path]
        refused = None if entry is None else entry(handler_call_details.invocation_metadata)
        return handler if refused is None else _turning_away(refused)


def _turning_away(refused: Refused) -> "grpc.RpcMethodHandler[Any, Any]":
    async def turn_away(_: Any, context: Any) -> None:
        await context.abort(*refused)

    return grpc.stream_unary_rpc_method_handler(turn_away)


class UnreadableRequests(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers INVALID_ARGUMENT where a message cannot be read; `grpc.aio` by itself answers UNKNOWN and logs a traceback."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["grpc.RpcMethodHandler[Any, Any]"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "grpc.RpcMethodHandler[Any, Any]":
        """Read the message inside the handler instead of before it."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        behaviour = handler.unary_stream if handler.response_streaming else handler.unary_unary
        make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        reading = _reading_stream if inspect.isasyncgenfunction(behaviour) else _reading  # a coroutine writes its stream itself
        return make(reading(behaviour, handler.request_deserializer), response_serializer=handler.response_serializer)


def unreadable(message: bytes, error: Exception) -> str:
    """Say that a message is none of its method; in the same words on every transport."""
    return f"request: {len(message)} bytes that are no message of this method ({type(error).__name__})"


def _reading(behaviour: Any, read: Callable[[bytes], Any]) -> Any:
    async def handle(message: bytes, context: Any) -> Any:
        return await behaviour(await _read(message, context, read), context)

    return handle


def _reading_stream(behaviour: Any, read: Callable[[bytes], Any]) -> Any:
    async def handle(message: bytes, context: Any) -> Any:
        async for answer in behaviour(await _read(message, context, read), context):
            yield answer

    return handle


async def _read(message: bytes, context: Any, read: Callable[[bytes], Any]) -> Any:
    try:
        return read(message)
    except Exception as error:  # protobuf's DecodeError, or whatever another reader raises on damaged bytes
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, unreadable(message, error))
