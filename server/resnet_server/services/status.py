"""The border: deadlines in, errors out as gRPC status, and the count of both."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from resnet_server.errors import (
    DeadlineError,
    EngineError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnavailableError,
    QueueFullError,
    ServingError,
)
from resnet_server.metrics import Metrics

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only

log = logging.getLogger(__name__)

STATUS: dict[type[ServingError], tuple[grpc.StatusCode, str]] = {
    InvalidRequestError: (grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
    ModelNotFoundError: (grpc.StatusCode.NOT_FOUND, "unknown_model"),
    ModelUnavailableError: (grpc.StatusCode.UNAVAILABLE, "unavailable"),
    QueueFullError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full"),
    DeadlineError: (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline"),
    EngineError: (grpc.StatusCode.INTERNAL, "engine"),
}
"""Error to gRPC status and to the `reason` label of `resnet_rejects_total`."""

RETRY_AFTER_MS = ("grpc-retry-pushback-ms", "100")


@dataclass
class Call:
    """One call as metrics see it; the service fills in the model once it is known to exist."""

    method: str
    model: str = ""
    version: str = ""


class Border:
    """Wraps a method's body: maps its errors, times and counts it."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self._metrics = metrics
        self._now = now

    @asynccontextmanager
    async def call(self, method: str, context: Context) -> AsyncIterator[Call]:
        """Use as `async with border.call("ModelInfer", context) as call`; aborts the RPC on an error."""
        call = Call(method)
        started = self._now()
        try:
            yield call
        except ServingError as error:
            code, reason = STATUS[type(error)]
            self._reject(call, started, code.name, reason)
            if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                context.set_trailing_metadata((RETRY_AFTER_MS,))
            await context.abort(code, str(error))
        except asyncio.CancelledError:
            self._reject(call, started, grpc.StatusCode.CANCELLED.name, "cancelled")
            raise
        except Exception as error:
            self._reject(call, started, grpc.StatusCode.INTERNAL.name, "internal")
            log.exception("%s failed", method)
            await context.abort(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}; the server's log has more")
        else:
            self._count(call, started, grpc.StatusCode.OK.name)

    def _reject(self, call: Call, started: float, status: str, reason: str) -> None:
        self._metrics.rejects.labels(call.model, call.version, reason).inc()
        self._count(call, started, status)

    def _count(self, call: Call, started: float, status: str) -> None:
        """Before the answer leaves, so that a caller who then looks at the metrics finds itself there."""
        self._metrics.requests.labels(call.model, call.version, call.method, status).inc()
        self._metrics.request_seconds.labels(call.model, call.version, call.method).observe(self._now() - started)

    def deadline(self, context: Context, timeout_us: int | None = None) -> float | None:
        """The earlier of the gRPC deadline and a timeout in microseconds, as a time of the clock; None without either."""
        remaining = context.time_remaining()
        limits = [remaining] if remaining is not None else []
        if timeout_us is not None:
            limits.append(timeout_us / 1e6)
        return self._now() + min(limits) if limits else None
