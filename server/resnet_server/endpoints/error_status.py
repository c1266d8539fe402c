"""The border: deadlines in, errors out as gRPC status, and the count of both."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import grpc
from resnet_proto.trailers import COMPUTED, MAYBE, NOTHING, RETRY_AFTER

from resnet_server.batching.waiter import Answer
from resnet_server.errors import (
    DeadlineError,
    EngineDiedError,
    EngineError,
    ForbiddenError,
    InvalidRequestError,
    LateError,
    ModelNotFoundError,
    ModelRefusedError,
    ModelUnavailableError,
    NotEnabledError,
    OverloadError,
    QueueFullError,
    QuotaError,
    ServingError,
    UnauthenticatedError,
    UnreachableDeadlineError,
)
from resnet_server.metrics.call_facts import LONGEST_ID, Caller, CallFacts, CallObserver
from resnet_server.metrics.metrics import Metrics
from resnet_server.transport.api import DirectCall

Counting: TypeAlias = Callable[..., None]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"  # generic in the stubs only

log = logging.getLogger(__name__)

STATUS: dict[type[ServingError], tuple[grpc.StatusCode, str]] = {
    InvalidRequestError: (grpc.StatusCode.INVALID_ARGUMENT, "invalid"),
    ModelNotFoundError: (grpc.StatusCode.NOT_FOUND, "unknown_model"),
    ModelUnavailableError: (grpc.StatusCode.UNAVAILABLE, "unavailable"),
    ModelRefusedError: (grpc.StatusCode.FAILED_PRECONDITION, "refused"),
    NotEnabledError: (grpc.StatusCode.UNIMPLEMENTED, "not_enabled"),
    QueueFullError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full"),
    QuotaError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "quota"),
    UnauthenticatedError: (grpc.StatusCode.UNAUTHENTICATED, "unauthenticated"),
    ForbiddenError: (grpc.StatusCode.PERMISSION_DENIED, "forbidden"),
    LateError: (grpc.StatusCode.RESOURCE_EXHAUSTED, "late"),
    DeadlineError: (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline"),
    UnreachableDeadlineError: (grpc.StatusCode.DEADLINE_EXCEEDED, "unreachable"),
    EngineDiedError: (grpc.StatusCode.UNAVAILABLE, "engine_died"),
    EngineError: (grpc.StatusCode.INTERNAL, "engine"),
}
"""Error to gRPC status and to the `reason` label of `resnet_rejects_total`."""

OK, CANCELLED = grpc.StatusCode.OK.name, grpc.StatusCode.CANCELLED.name
WAY_BACK_SECONDS, WAY_BACK_SHARE = 0.002, 0.05
"""Kept free before a deadline, the lesser of the two: an answer must be with its caller by then, not only leave."""


LONGEST_DETAILS = 2000
"""Characters of a status text: what callers sent is clipped where it is shown, and this is for what was forgotten. A status
travels in headers, of which clients take 8 KiB; beyond, they see an error of theirs in its place."""

COUNTED_METHODS = ("ModelInfer", "Classify")


class Refusal(NamedTuple):
    """How a call ends that is not answered."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str], ...] = ()


def _trailers(code: grpc.StatusCode, error: ServingError) -> tuple[tuple[str, str], ...]:
    """When to come back, or whether the call may be repeated at will: one that its engine died of must not take the next with it."""
    if isinstance(error, OverloadError):
        return ((RETRY_AFTER, str(max(1, round(1e3 * error.retry_after)))),)
    if code is grpc.StatusCode.UNAVAILABLE:
        return ((COMPUTED, MAYBE if isinstance(error, EngineDiedError) else NOTHING),)
    return ()


class Border:
    """Wraps a method's body: maps its errors, times and counts it."""

    def __init__(self, metrics: Metrics, now: Callable[[], float]) -> None:
        self.observer: CallObserver | None = None
        self._metrics = metrics
        self._now = now
        self._kept: dict[tuple[str, str, str, str, str], Counting] = {}
        metrics.on_dropped.append(self._forget)

    def _forget(self, model: str, version: str) -> None:
        for key in [key for key in self._kept if key[:2] == (model, version)]:
            del self._kept[key]

    def expect(self, model: str, version: str) -> None:
        """Have every series of a model there from the start: what begins at its first failure, `rate()` does not see."""
        statuses = {code.name for code, _ in STATUS.values()} | {OK, CANCELLED}
        for method in COUNTED_METHODS:
            self._metrics.request_seconds.labels(model, version, method)
            for status in statuses:
                self._metrics.requests.labels(model, version, method, status)
        for reason in {reason for _, reason in STATUS.values()} | {"cancelled", "internal"}:
            self._metrics.rejects.labels(model, version, reason)

    def record(self, method: str, arrived: float, caller: Caller | None = None) -> "CallRecord":
        """Of a call that reached the process at `arrived`; end it by `answered`, `left` or `refusal`."""
        observer = self.observer
        return CallRecord(method, arrived, None if observer is None or caller is None else observer.begin(method, arrived, caller))

    def call(self, method: str, context: Context) -> "BorderedCall":
        """Use as `async with border.call("Classify", context) as record`; aborts the RPC on an error."""
        return BorderedCall(self, self.record(method, getattr(context, "arrived", None) or self._now(), context), context)

    def refusal(self, record: "CallRecord", error: Exception) -> "Refusal":
        """Count what went wrong, and say how the call ends."""
        if not isinstance(error, ServingError):
            self._count(record, grpc.StatusCode.INTERNAL.name, "internal")
            log.error("%s failed", record.method, exc_info=error)
            return Refusal(grpc.StatusCode.INTERNAL, f"internal error: {type(error).__name__}; the server's log has more")
        code, reason = status_of(error)
        self._count(record, code.name, reason)
        return Refusal(code, clipped(str(error)), _trailers(code, error))

    def left(self, record: "CallRecord") -> None:
        """Count a caller who did not wait."""
        self._count(record, CANCELLED, "cancelled")

    def answered(self, record: "CallRecord") -> None:
        """Count before the answer leaves, so that a caller who then looks at the metrics finds itself there."""
        self._count(record, OK, "")

    def _count(self, record: "CallRecord", status: str, reason: str) -> None:
        """Looking labels up costs more than counting: what was looked up is kept. Names that callers invent never get here."""
        key = (record.model, record.version, record.method, status, reason)
        count = self._kept.get(key)
        if count is None:
            count = self._kept[key] = self._counting(*key)
        now = self._now()
        if record.facts is None or self.observer is None:
            self._metrics.buffer.note(count, now - record.arrived)
        else:
            self._tell(record, record.facts, status, reason, now)
            self._metrics.buffer.note(partial(count, exemplar=record.facts.exemplar), now - record.arrived)

    def _tell(self, record: "CallRecord", facts: CallFacts, status: str, reason: str, now: float) -> None:
        """Hand over to those that write calls down."""
        facts.model, facts.version, facts.status, facts.reason, facts.ended = record.model, record.version, status, reason, now
        if self.observer is not None:
            self.observer.end(facts)

    def _counting(self, model: str, version: str, method: str, status: str, reason: str) -> Counting:
        """Counts one such call, given its seconds, and the trace that it is an example of."""
        counters = [self._metrics.requests.labels(model, version, method, status)]
        if reason:
            counters.append(self._metrics.rejects.labels(model, version, reason))
        statistics, is_inference = self._metrics.statistics, bool(model) and method in COUNTED_METHODS
        counted = statistics.call_counter((model, version), status == OK) if is_inference else None
        observe = self._metrics.request_seconds.labels(model, version, method).observe if status == OK else None

        def count(seconds: float, exemplar: dict[str, str] | None = None) -> None:
            for counter in counters:
                counter.inc()
            if counted is not None:
                counted(seconds)
            if observe is not None:  # a refusal takes no time: among answers it would make an overloaded server look fast
                observe(seconds, exemplar)

        return count

    def deadline(self, call: "Context | DirectCall", timeout_us: int | None = None) -> float | None:
        """The earlier of the gRPC deadline and a timeout in microseconds, less the answer's way back; None without either.

        As a time of the clock.
        """
        remaining = call.time_remaining()
        limits = [remaining] if remaining is not None else []
        if timeout_us is not None:
            limits.append(timeout_us / 1e6)
        if not limits:
            return None
        left = min(limits)
        return self._now() + left - min(WAY_BACK_SECONDS, WAY_BACK_SHARE * max(0.0, left))


class BorderedCall:
    """The body of a method on the event loop, between its record and the count of how it ended."""

    def __init__(self, border: Border, record: "CallRecord", context: Context) -> None:
        self._border = border
        self._record = record
        self._context = context

    async def __aenter__(self) -> "CallRecord":
        return self._record

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        """Count it; an error aborts the RPC, which raises in its place."""
        if error is None:
            self._border.answered(self._record)
        elif isinstance(error, asyncio.CancelledError):
            self._border.left(self._record)
        elif isinstance(error, Exception):  # the table knows what each is worth to the caller
            refusal = self._border.refusal(self._record, error)
            await self._context.abort(refusal.code, refusal.details, refusal.trailing_metadata)


def status_of(error: ServingError) -> tuple[grpc.StatusCode, str]:
    """Status and reason of an error, or of what it is a kind of."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), (grpc.StatusCode.INTERNAL, "internal"))


def clipped(text: str) -> str:
    """At most LONGEST_DETAILS characters."""
    return text if len(text) <= LONGEST_DETAILS else f"{text[:LONGEST_DETAILS]}..."


@dataclass(slots=True)
class CallRecord:
    """One call as metrics see it; the service fills in the model once it is known to exist."""

    method: str
    arrived: float
    facts: CallFacts | None = None
    model: str = ""
    version: str = ""

    def computed(self, answer: Answer, rows: int, precision: str, request_id: str = "") -> None:
        """Note how the answer came to be, where anybody wants to know."""
        facts = self.facts
        if facts is None:
            return
        facts.rows, facts.precision, facts.cached = rows, precision, not answer.batch
        facts.request_id = request_id[:LONGEST_ID] or facts.request_id
        if facts.cached:
            return
        facts.settled = time.monotonic()
        facts.batch, facts.batch_rows = answer.batch, answer.batch_rows
        facts.queue_seconds, facts.batch_seconds, facts.engine_seconds = answer.queue_seconds, answer.compute_seconds, answer.engine_seconds
