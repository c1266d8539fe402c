"""What is told of one call to those that write it down: gathered while it runs, handed over when it ends, and written on another thread."""

import logging
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)

OTLP = "otlp"
"""As the place of traces: a collector, as the variables of OpenTelemetry say."""

MOST_WAITING = 10_000
"""Calls that may wait to be written; more are dropped, counted, and answered as ever."""

IDLE_SECONDS = 0.5
CLOSE_SECONDS = 2.0
TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
HALF = 1 << 64
LONGEST_ID = 128


@dataclass(slots=True)
class CallFacts:
    """Times are of `time.monotonic`, other seconds durations; what a call never came to stays as it is here.

    `traced`: whether a trace of it is kept; `parent_id` 0: nobody sent a context. `settled`: when its batch was computed.
    """

    method: str
    arrived: float
    peer: str = ""
    caller: str = ""
    request_id: str = ""
    trace_id: int = 0
    parent_id: int = 0
    trace_state: str = ""
    traced: bool = False
    model: str = ""
    version: str = ""
    precision: str = ""
    rows: int = 0
    cached: bool = False
    batch: int = 0
    batch_rows: int = 0
    queue_seconds: float = 0.0
    batch_seconds: float = 0.0
    engine_seconds: float = 0.0
    settled: float = 0.0
    status: str = ""
    reason: str = ""
    ended: float = 0.0

    @property
    def exemplar(self) -> dict[str, str] | None:
        """What leads from a histogram to the trace."""
        return {"trace_id": f"{self.trace_id:032x}"} if self.traced else None


class Caller(Protocol):
    """A call, as far as it says who calls."""

    def invocation_metadata(self) -> Any:
        """What the caller sent beside the message, as pairs."""

    def peer(self) -> str:
        """The caller's address, as gRPC writes it."""


class Writer(Protocol):
    """Writes calls down; all of this is called on one thread."""

    def write(self, facts: CallFacts) -> None:
        """One call that has ended."""

    def idle(self) -> None:
        """Nothing has come for a while."""

    def close(self) -> None:
        """Nothing comes any more."""


class CallObserver:
    """Gathers facts of each call, and has `writers` write them. `begin` and `end` may be called on any thread.

    `trace_share`: of calls without a context of their caller's, those that are traced; it may be set at any time. `name_of`: whose token a
    call has. `dropped` is called for each that was not written.
    """

    def __init__(
        self,
        writers: Sequence[Writer],
        trace_share: float = 0.0,
        name_of: Callable[[Iterable[Any]], str] = lambda _: "",
        dropped: Callable[[], None] = lambda: None,
    ) -> None:
        self.trace_share = trace_share
        self._writers = writers
        self._name_of = name_of
        self._dropped = dropped
        self._queue: queue.SimpleQueue[CallFacts | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="call-writer", daemon=True)
        self._thread.start()

    def begin(self, method: str, arrived: float, caller: Caller) -> CallFacts:
        """The facts of a call that has come."""
        metadata = tuple(caller.invocation_metadata() or ())
        facts = CallFacts(method, arrived, caller.peer(), self._name_of(metadata))
        for key, value in metadata:
            if key == "traceparent" and isinstance(value, str):
                read_context(facts, value)
            elif key == "tracestate" and isinstance(value, str):
                facts.trace_state = value
            elif key == "x-request-id" and isinstance(value, str):
                facts.request_id = value[:LONGEST_ID]
        if not facts.trace_id:
            facts.trace_id = random.getrandbits(128) or 1  # no secret
            facts.traced = facts.trace_id % HALF < self.trace_share * HALF
        return facts

    def end(self, facts: CallFacts) -> None:
        """It is over: have it written."""
        if self._queue.qsize() >= MOST_WAITING:
            self._dropped()
        else:
            self._queue.put(facts)

    def close(self) -> None:
        """Write what waits; not longer than CLOSE_SECONDS, whatever a collector of traces does."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            try:
                facts = self._queue.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._each(lambda writer: writer.idle())
                continue
            if facts is None:
                self._each(lambda writer: writer.close())
                return
            self._each(lambda writer, facts=facts: writer.write(facts))  # type: ignore[misc]  # a default binds it

    def _each(self, tell: Callable[[Writer], None]) -> None:
        for writer in self._writers:
            try:
                tell(writer)
            except Exception as error:  # a full disk must not end the writing for good
                log.error("%s: a call is not written: %s", type(writer).__name__, error)


def read_context(facts: CallFacts, traceparent: str) -> None:
    """Take over W3C trace context; what is none is as good as absent.

    https://www.w3.org/TR/trace-context/
    """
    match = TRACEPARENT.fullmatch(traceparent)
    if match is not None and int(match[1], 16) and int(match[2], 16):
        facts.trace_id, facts.parent_id = int(match[1], 16), int(match[2], 16)
        facts.traced = bool(int(match[3], 16) & 1)


def wall_clock_offset() -> float:
    """What makes a time of day of a time of `time.monotonic`."""
    return time.time() - time.monotonic()
