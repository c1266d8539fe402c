"""A log of calls: one JSON object a line."""

import logging
import logging.handlers
import random
import sys
from datetime import UTC, datetime

import orjson

from resnet_server.metrics.call_facts import CallFacts, wall_clock_offset

STDOUT = "-"
OK = "OK"
MILLISECONDS = 1e3


class AccessLog:
    """Writes to a file, which may be moved away at any time, or to stdout. `share`: of answered calls; others are all written.

    Raises OSError where the file cannot be opened.
    """

    def __init__(self, path: str, share: float = 1.0) -> None:
        self.share = share
        self._handler = logging.StreamHandler(sys.stdout) if path == STDOUT else logging.handlers.WatchedFileHandler(path)
        self._handler.setFormatter(logging.Formatter("%(message)s"))

    def write(self, facts: CallFacts) -> None:
        """See `Writer.write`."""
        if facts.status == OK and random.random() >= self.share:  # noqa: S311  # no secret
            return
        line = orjson.dumps(document(facts)).decode()
        self._handler.handle(logging.LogRecord("access", logging.INFO, "", 0, line, None, None))

    def idle(self) -> None:
        """See `Writer.idle`: each line is flushed already."""

    def close(self) -> None:
        """See `Writer.close`."""
        if isinstance(self._handler, logging.handlers.WatchedFileHandler):
            self._handler.close()


def document(facts: CallFacts) -> dict[str, object]:
    """The fields of a line, without those of steps that the call never reached."""
    found: dict[str, object] = {
        "time": datetime.fromtimestamp(facts.ended + wall_clock_offset(), UTC).isoformat(timespec="milliseconds"),
        "method": facts.method,
        "status": facts.status,
        "milliseconds": round(MILLISECONDS * (facts.ended - facts.arrived), 3),
    }
    for name in ("reason", "model", "version", "precision", "request_id", "peer", "caller", "rows", "batch_rows", "cached"):
        if value := getattr(facts, name):
            found[name] = value
    if facts.settled:
        found["queue_milliseconds"] = round(MILLISECONDS * facts.queue_seconds, 3)
        found["batch_milliseconds"] = round(MILLISECONDS * facts.batch_seconds, 3)
    if facts.traced or facts.parent_id:
        found["trace_id"] = f"{facts.trace_id:032x}"
    return found
