"""A served model from its facts and its engines: the batcher between them, wired to the metrics."""

from collections.abc import Sequence
from functools import partial

from resnet_server.admission import Admission
from resnet_server.batch import BatchReport, Limits, Watchers
from resnet_server.batching import Batcher
from resnet_server.clock import LoopClock
from resnet_server.cost import CostModel
from resnet_server.engines.device import CPU_PROVIDER
from resnet_server.engines.interface import Engine
from resnet_server.facts import Facts
from resnet_server.metrics import Metrics
from resnet_server.registry import ServedModel
from resnet_server.settings import Settings


def assemble(facts: Facts, engines: Sequence[Engine], settings: Settings, metrics: Metrics) -> ServedModel:
    """Put a batcher in front of warm engines."""
    plan = facts.plan
    grain = plan.grain if facts.provider == CPU_PROVIDER else 1  # elsewhere front end and engines share no cores
    limits = Limits(settings.max_batch, plan.batch, settings.max_queue_rows, settings.max_delay, grain)
    admission = Admission(CostModel(plan.fixed, plan.per_row), plan.batch)
    batcher = Batcher(engines, limits, LoopClock(), admission, watchers(facts.key, metrics))
    metrics.queue_rows.labels(*facts.key).set_function(lambda: batcher.queued_rows)
    return ServedModel(facts, batcher)


def watchers(labels: tuple[str, str, str], metrics: Metrics) -> Watchers:
    """What the batcher tells, as metrics."""
    compute, rows, images = metrics.compute_seconds.labels(*labels), metrics.batch_rows.labels(*labels), metrics.images.labels(*labels)
    error, queue = metrics.prediction_error.labels(*labels), metrics.queue_seconds.labels(*labels)
    note = metrics.ledger.note

    def on_batch(report: BatchReport) -> None:
        note(compute.observe, report.compute_seconds)
        note(rows.observe, report.rows)
        note(images.inc, report.rows)
        if report.predicted_seconds is not None:
            note(error.observe, abs(report.compute_seconds - report.predicted_seconds))

    return Watchers(on_batch, partial(note, queue.observe))
