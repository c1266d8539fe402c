"""What our server says of a load: its metrics before and after."""

import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from resnet_bench.errors import BenchError

TIMEOUT_SECONDS = 10.0
METHOD = "ModelInfer"
SUMS = {
    "resnet_request_seconds_sum": "request_seconds",
    "resnet_request_seconds_count": "requests",
    "resnet_queue_seconds_sum": "queue_seconds",
    "resnet_queue_seconds_count": "queued",
    "resnet_batch_rows_sum": "rows",
    "resnet_batch_rows_count": "batches",
}
"""The server's metric (see resnet_server/metrics/metrics.py) to the field of `Observed` that holds its sum over the labels."""


@dataclass
class Observed:
    """Sums since the server started, or between two scrapes.

    Seconds from a call's arrival to its answer, and of that in the queue, with the numbers of calls; rows and batches computed;
    `batch_rows` counts batches by the upper end of their bucket of rows, infinity included.
    """

    request_seconds: float = 0.0
    requests: float = 0.0
    queue_seconds: float = 0.0
    queued: float = 0.0
    rows: float = 0.0
    batches: float = 0.0
    batch_rows: Counter[float] = field(default_factory=Counter)

    def since(self, before: "Observed") -> "Observed":
        """What came after `before`."""
        sums = {name: getattr(self, name) - getattr(before, name) for name in SUMS.values()}
        rows = {bucket: count - before.batch_rows[bucket] for bucket, count in self.batch_rows.items()}
        return Observed(**sums, batch_rows=Counter(rows))

    @property
    def server_ms(self) -> float:
        """Mean time of a call in the server in milliseconds."""
        return 1e3 * self.request_seconds / self.requests if self.requests else 0.0

    @property
    def queue_ms(self) -> float:
        """Mean wait of a call before its batch began in milliseconds."""
        return 1e3 * self.queue_seconds / self.queued if self.queued else 0.0


def scrape(metrics_url: str, model: str, version: str) -> Observed:
    """Read the metrics of one model; raises BenchError where they cannot be read."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  # the user says where
            text = answer.read().decode()
    except (OSError, ValueError, UnicodeDecodeError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise BenchError(f"metrics-url: {metrics_url} cannot be read: {reason}") from None
    return parsed(text, model, version)


def parsed(text: str, model: str, version: str) -> Observed:
    """Of Prometheus's text format; an empty version sums over all."""
    found = Observed()
    cumulative: Counter[float] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("model") != model or version not in ("", labels.get("version")) or labels.get("method", METHOD) != METHOD:
                continue
            if name := SUMS.get(sample.name):
                setattr(found, name, getattr(found, name) + sample.value)
            elif sample.name == "resnet_batch_rows_bucket":
                cumulative[float(labels["le"])] += int(sample.value)
    below = 0
    for bucket, count in sorted(cumulative.items()):
        found.batch_rows[bucket] = count - below
        below = count
    return found
