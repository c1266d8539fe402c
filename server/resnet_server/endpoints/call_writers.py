"""Who writes calls down, as the settings say: an access log, traces, both or nobody."""

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from resnet_server.errors import StartError
from resnet_server.metrics.access_log import AccessLog
from resnet_server.metrics.call_facts import CallObserver, Writer
from resnet_server.settings import Settings

NEEDED = "opentelemetry.sdk"


def observer_of(settings: Settings, name_of: Callable[[Iterable[Any]], str], dropped: Callable[[], None]) -> CallObserver | None:
    """None where nobody asks for it: then calls are not observed at all. Raises StartError for what cannot be written."""
    writers: list[Writer] = []
    if settings.access_log:
        try:
            writers.append(AccessLog(settings.access_log, settings.access_log_share))
        except OSError as error:
            raise StartError(f"access-log: {settings.access_log} cannot be written: {error.strerror}") from None
    if settings.traces:
        writers.append(_trace_writer(settings.traces))
    share = settings.trace_share if settings.traces else 0.0
    return CallObserver(writers, share, name_of, dropped) if writers else None


def _trace_writer(where: str) -> Writer:
    try:
        found = find_spec(NEEDED)
    except ModuleNotFoundError:  # of the package above it
        found = None
    if found is None:
        raise StartError("traces: OpenTelemetry is not installed; expected `pip install 'resnet-serving[traces]'`")
    from resnet_server.metrics.tracing import TraceWriter  # OpenTelemetry: only where it is asked for

    try:
        return TraceWriter(where)
    except OSError as error:
        raise StartError(f"traces: {where} cannot be written: {error.strerror}") from None
