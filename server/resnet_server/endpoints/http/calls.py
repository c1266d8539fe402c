"""Calls of the gRPC services from HTTP, and what their errors become."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import grpc
from starlette.requests import Request
from starlette.responses import JSONResponse

from resnet_server.endpoints.error_status import Context
from resnet_server.transport.api import DirectMethod, Metadata
from resnet_server.transport.asyncio_call import AsyncioCall

STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.CANCELLED: 499,
    grpc.StatusCode.INTERNAL: 500,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""gRPC status to HTTP status, as gateways map them; 499 is nginx's for a caller who left."""

PUSHBACK = "grpc-retry-pushback-ms"


@dataclass
class HttpError(Exception):
    """How a call ends that is not answered: the protocol's `{"error": text}`."""

    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """As an answer."""
        return JSONResponse({"error": self.text}, self.status, self.headers)


def http_error(code: grpc.StatusCode, details: str, trailing: Metadata = ()) -> HttpError:
    """From a gRPC status; a hint when to try again becomes `Retry-After`, in whole seconds, with the exact one beside it."""
    headers = {"WWW-Authenticate": "Bearer"} if code is grpc.StatusCode.UNAUTHENTICATED else {}
    for key, value in trailing:
        if key == PUSHBACK:
            headers |= {"Retry-After": str(math.ceil(int(value) / 1e3)), "Retry-After-Ms": str(int(value))}
    return HttpError(STATUS.get(code, 500), details, headers)


class HttpContext:
    """What a gRPC service asks of its context, for a request over HTTP; `timeout`: seconds, None without one.

    Only that part of `grpc.aio.ServicerContext`: use `as_context` where the whole type is asked for.
    """

    def __init__(self, request: Request, timeout: float | None = None) -> None:
        self.arrived = time.monotonic()
        self._request = request
        self._ends = None if timeout is None else self.arrived + timeout

    def time_remaining(self) -> float | None:
        """See `grpc.aio.ServicerContext`."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """The request's headers."""
        return tuple(self._request.headers.items())

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """HTTP/1.1 has no place for it."""

    def peer(self) -> str:
        """The caller's address, as gRPC writes it."""
        client = self._request.client
        return f"ipv4:{client.host}:{client.port}" if client is not None else "unknown"

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """Raises HttpError."""
        raise http_error(code, details, trailing_metadata)


def as_context(context: HttpContext) -> Context:
    """For methods that are typed for gRPC's own."""
    return cast("Context", context)


async def call_direct(method: DirectMethod, message: bytes, context: HttpContext, request: Request) -> bytes:
    """Run a direct method; a caller who hangs up leaves the call. Raises HttpError."""
    call = AsyncioCall(as_context(context))
    method(message, call)
    ended = await until_gone(call.ended, request, call.left)
    if isinstance(ended, bytes):
        return ended
    raise http_error(*ended)


async def call_method(method: Awaitable[Any], request: Request) -> Any:
    """Run a coroutine method; it is cancelled when the caller hangs up. Raises HttpError."""
    task = asyncio.ensure_future(method)
    return await until_gone(task, request, lambda: None)


async def until_gone(work: "asyncio.Future[Any]", request: Request, left: Callable[[], None]) -> Any:
    """What `work` gives, unless the caller hangs up before: then `left` is called and `work` cancelled."""
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        left()
        raise caller_gone()
    finally:
        gone.cancel()
        work.cancel()


def caller_gone() -> HttpError:
    """For who hung up; nobody reads it, and nothing else is logged."""
    return HttpError(499, "the caller has gone")


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
