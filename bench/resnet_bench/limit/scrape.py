"""What the server says about itself: sums of its /metrics before and after a run."""

import urllib.error
import urllib.request
from collections import defaultdict
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families

from resnet_bench.errors import BenchError

SCRAPE_SECONDS = 10.0


@dataclass(frozen=True)
class Steps:
    """Milliseconds of a call inside the server, on average, and rows of a batch.

    `compute` is the time in the engine of the batch that has its rows, averaged over batches, or of its batches one after
    another where a call is larger than a batch; `rest` is decoding, hand-over, encoding and the wait for the event loop.
    """

    calls: int
    total: float
    queue: float
    compute: float
    batch_rows: float

    @property
    def rest(self) -> float:
        """What is neither queue nor compute."""
        return max(0.0, self.total - self.queue - self.compute)


Sums = dict[str, float]


def scrape(url: str, model: str) -> Sums:
    """Totals for one model by sample name; `ok` and `refused` count ModelInfer calls by their status."""
    try:
        with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS) as reply:  # noqa: S310  # the address is our own server's
            text = reply.read().decode()
    except (urllib.error.URLError, TimeoutError) as error:
        raise BenchError(f"metrics: {url} does not answer: {error}") from None
    return sums(text, model)


def sums(text: str, model: str) -> Sums:
    """Add up the samples of `model` in a Prometheus text; request metrics for ModelInfer only."""
    totals: Sums = defaultdict(float)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            if labels.get("model") != model or labels.get("method", "ModelInfer") != "ModelInfer" or "le" in labels:
                continue
            totals[sample.name] += sample.value
            if sample.name == "resnet_requests_total":
                totals["ok" if labels.get("status") == "OK" else "refused"] += sample.value
    return totals


def steps_between(before: Sums, after: Sums, rows: int) -> Steps:
    """Where the time of the calls, of `rows` images each, between two scrapes went."""

    def mean(name: str, scale: float) -> float:
        count = after[f"{name}_count"] - before[f"{name}_count"]
        return scale * (after[f"{name}_sum"] - before[f"{name}_sum"]) / count if count else 0.0

    batch_rows = mean("resnet_batch_rows", 1)
    batches = max(1.0, rows / batch_rows) if batch_rows else 0.0
    return Steps(
        int(after["ok"] - before["ok"]),
        mean("resnet_request_seconds", 1e3),
        mean("resnet_queue_seconds", 1e3),
        batches * mean("resnet_compute_seconds", 1e3),
        batch_rows,
    )
