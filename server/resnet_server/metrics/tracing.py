"""Calls as OpenTelemetry spans, made when a call has ended: only then is anything of OpenTelemetry's done.

A call's span has `queue`, `compute` and `answer` in it. A batch has one span, in the trace of its first traced call; it links to all its
traced calls, and their `compute` links to it.
"""

from collections import OrderedDict
from pathlib import Path
from typing import IO, Any, cast

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags, TraceState

from resnet_server.metrics.call_facts import OTLP, CallFacts, wall_clock_offset

NANOSECONDS = 1e9
MOST_BATCHES = 256
"""Whose spans are open for calls that are still to be linked."""

SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class TraceWriter:
    """To `otlp`, as the variables `OTEL_EXPORTER_OTLP_...` say, or to a file, a JSON object a line. Raises OSError for the latter."""

    def __init__(self, where: str) -> None:
        self._file: IO[str] | None = None if where == OTLP else Path(where).open("a")  # noqa: SIM115  # until `close`
        self._ids = _GivenIds()
        named = Resource.create()  # as OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say
        unnamed = str(named.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
        resource = named.merge(Resource({SERVICE_NAME: "resnet-server"})) if unnamed else named
        self._provider = TracerProvider(sampler=ALWAYS_ON, id_generator=self._ids, resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter()))
        self._tracer = self._provider.get_tracer("resnet_server")
        self._batches: OrderedDict[int, tuple[Span, int]] = OrderedDict()

    def write(self, facts: CallFacts) -> None:
        """See `Writer.write`; only of those that are traced."""
        if not facts.traced:
            return
        clock = _Clock()
        call = self._start(facts, clock)
        inside = trace.set_span_in_context(call, Context())
        if facts.settled:
            self._parts(facts, call, inside, clock)
        if facts.status != "OK":
            call.set_status(StatusCode.ERROR, facts.reason)
        call.end(clock(facts.ended))

    def idle(self) -> None:
        """See `Writer.idle`: calls of these batches have come by now."""
        while self._batches:
            self._end_oldest()

    def close(self) -> None:
        """See `Writer.close`."""
        self.idle()
        self._provider.shutdown()
        if self._file is not None:
            self._file.close()

    def _start(self, facts: CallFacts, clock: "_Clock") -> Span:
        context = Context()
        self._ids.next_trace = facts.trace_id
        if facts.parent_id:
            state = TraceState.from_header([facts.trace_state]) if facts.trace_state else None
            parent = SpanContext(facts.trace_id, facts.parent_id, is_remote=True, trace_flags=SAMPLED, trace_state=state)
            context = trace.set_span_in_context(NonRecordingSpan(parent), context)
        return self._tracer.start_span(facts.method, context, SpanKind.SERVER, attributes_of(facts), start_time=clock(facts.arrived))

    def _parts(self, facts: CallFacts, call: Span, inside: Context, clock: "_Clock") -> None:
        started = facts.settled - facts.batch_seconds
        self._part("queue", inside, clock(started - facts.queue_seconds), clock(started))
        batch = self._batch(facts, inside, clock(started), clock(facts.settled))
        batch.add_link(call.get_span_context(), {"resnet.rows": facts.rows})
        link = Link(batch.get_span_context(), {"resnet.batch": facts.batch})
        self._part("compute", inside, clock(facts.settled - facts.engine_seconds), clock(facts.settled), link)
        self._part("answer", inside, clock(facts.settled), clock(facts.ended))

    def _part(self, name: str, inside: Context, start: int, end: int, *links: Link) -> None:
        self._tracer.start_span(name, inside, links=links, start_time=start).end(end)

    def _batch(self, facts: CallFacts, inside: Context, start: int, end: int) -> Span:
        known = self._batches.get(facts.batch)
        if known is not None:
            return known[0]
        about: dict[str, Any] = {"resnet.batch": facts.batch, "resnet.batch.rows": facts.batch_rows, "resnet.model": facts.model}
        span = self._tracer.start_span("batch", inside, attributes=about, start_time=start)
        self._batches[facts.batch] = span, end
        if len(self._batches) > MOST_BATCHES:
            self._end_oldest()
        return span

    def _end_oldest(self) -> None:
        _, (span, end) = self._batches.popitem(last=False)
        span.end(end)

    def _exporter(self) -> SpanExporter:
        if self._file is not None:
            return ConsoleSpanExporter(out=self._file, formatter=lambda span: cast("str", span.to_json(indent=None)) + "\n")
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()


def attributes_of(facts: CallFacts) -> dict[str, Any]:
    """By OpenTelemetry's names where it has some."""
    found = {
        "rpc.method": facts.method,
        "rpc.response.status_code": facts.status,
        "network.peer.address": facts.peer,
        "enduser.id": facts.caller,
        "resnet.request.id": facts.request_id,
        "resnet.model": facts.model,
        "resnet.version": facts.version,
        "resnet.precision": facts.precision,
        "resnet.rows": facts.rows,
        "resnet.batch.rows": facts.batch_rows,
        "resnet.cached": facts.cached,
        "error.type": facts.reason,
    }
    return {name: value for name, value in found.items() if value}


class _Clock:
    """Nanoseconds since 1970 of times of `time.monotonic`."""

    def __init__(self) -> None:
        self._offset = wall_clock_offset()

    def __call__(self, monotonic: float) -> int:
        return round((monotonic + self._offset) * NANOSECONDS)


class _GivenIds(RandomIdGenerator):
    """Traces have the number that the call got when it came: by then metrics had to know it."""

    next_trace = 0

    def generate_trace_id(self) -> int:
        """See the class."""
        return self.next_trace
