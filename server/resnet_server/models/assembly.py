"""A batcher in front of warm engines, wired to the metrics: of a model, and of a group."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import BatchReport, Limits, Watchers
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.chooser import Choice
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.tally import Tally
from resnet_server.engines.api import Engine, is_on_host
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.depth_chooser import STATED, DepthChooser
from resnet_server.models.group import GroupInfo
from resnet_server.models.served_group import ServedGroup
from resnet_server.models.served_model import ModelInfo, ServedModel
from resnet_server.planning.plan_watch import PlanWatch
from resnet_server.processes.clock import LoopClock
from resnet_server.settings import Settings

SHADOW_TIMES = 100.0
"""An engine in the time that others leave gets a seventieth of a core that they use fully."""

MOST_KINDS = 4096
"""Of batches, by rows and requests: for so many the way to count them is kept."""


def assemble(info: ModelInfo, engines: Sequence[Engine], settings: Settings, metrics: Metrics, tally: Tally | None = None) -> ServedModel:
    """Put a batcher in front of warm engines; `tally` is what front ends of the same engines count in common."""
    common = (engines, limits_of(info, settings), metrics, tally)
    model = _assemble_group(info, *common) if isinstance(info, GroupInfo) else _assemble_model(info, *common)
    metrics.queue_rows.labels(*info.key).set_function(lambda: model.batcher.queued_rows)
    metrics.plan_error.labels(*info.key).set_function(lambda: model.watch.times)
    return model


def limits_of(info: ModelInfo, settings: Settings) -> Limits:
    """Of the batcher."""
    settings = info.own.applied(settings)
    plan, shares_cores = info.plan, is_on_host(info.provider)  # front end and engines
    grain, least = (plan.grain, plan.least_grain) if shares_cores else (1, 1)
    rows = (settings.max_batch, plan.batch, settings.max_queue_rows)
    return Limits(*rows, settings.max_delay, grain, settings.frontends or 1, SHADOW_TIMES if info.in_shadow else 1.0, least)


def _assemble_model(info: ModelInfo, engines: Sequence[Engine], limits: Limits, metrics: Metrics, tally: Tally | None) -> ServedModel:
    plan = info.plan
    cost, watch = CostModel(plan.fixed, plan.per_row, bool(plan.wide_threads)), PlanWatch(plan.fixed, plan.per_row)
    told = watchers(info, metrics, lambda report: watch.note(report.rows, report.compute_seconds))
    return ServedModel(info, Batcher(engines, limits, LoopClock(), Admission(cost, plan.batch), told, tally), cost, watch)


def _assemble_group(info: GroupInfo, engines: Sequence[Engine], limits: Limits, metrics: Metrics, tally: Tally | None) -> ServedGroup:
    """The cost model is that of the cheapest member, and what the others take is scaled to it."""
    plan, cheapest = info.plan, info.members[0].plan
    wide = bool(plan.wide_threads)
    cost, watch = CostModel(cheapest.fixed, cheapest.per_row, wide), PlanWatch(cheapest.fixed, cheapest.per_row)
    chooser = DepthChooser(info, wide, limits.max_queue / limits.sharers)
    counted = MemberCounts(info, metrics)

    def compare(report: BatchReport) -> None:
        if report.choice is not None:
            watch.note(report.rows, report.compute_seconds / chooser.times(report.choice, report.rows))

    told = watchers(info, metrics, compare, counted.note)
    batcher = Batcher(engines, limits, LoopClock(), Admission(cost, plan.batch), told, tally, chooser)
    # front ends' gauges are added up: this one's share of the mean
    metrics.group_slow_down.labels(*info.key[:2]).set_function(lambda: chooser.slow_down / limits.sharers)
    metrics.group_serving.labels(*info.key[:2]).set_function(lambda: chooser.serving / limits.sharers)
    return ServedGroup(info, batcher, cost, watch, chooser)


class MemberCounts:
    """Which member answered how many images and why, and how often that changed."""

    def __init__(self, info: GroupInfo, metrics: Metrics) -> None:
        name, version, _ = info.key
        self._note = metrics.buffer.note
        self._switches = metrics.group_switches.labels(name, version)
        self._images = metrics.group_images
        self._labels = [(name, version, member.manifest.name, member.precision) for member in info.members]
        self._known: dict[Choice, Callable[[float], None]] = {}
        self._last: int | None = None
        for labels in self._labels:  # what begins at its first answer, `rate()` does not see
            for reason in STATED.values():
                self._images.labels(*labels, reason)

    def note(self, report: BatchReport) -> None:
        """One batch ran."""
        choice = report.choice
        if choice is None:
            return
        count = self._known.get(choice)
        if count is None:
            count = self._known[choice] = self._images.labels(*self._labels[choice.network], choice.reason).inc
        self._note(count, report.rows)
        if self._last is not None and self._last != choice.network:
            self._switches.inc()
        self._last = choice.network


def nothing(report: BatchReport) -> None:
    """There are no members to count."""


def watchers(
    info: ModelInfo, metrics: Metrics, compare: Callable[[BatchReport], None], also: Callable[[BatchReport], None] = nothing
) -> Watchers:
    """What the batcher tells, as metrics and statistics, and to whoever watches over the plan."""
    labels, wide = info.key, bool(info.plan.wide_threads)
    compute, rows, images = metrics.compute_seconds.labels(*labels), metrics.batch_rows.labels(*labels), metrics.images.labels(*labels)
    error, queue = metrics.prediction_error.labels(*labels), metrics.queue_seconds.labels(*labels)
    note, statistics, key = metrics.buffer.note, metrics.statistics, labels[:2]
    waited = statistics.wait_counter(key)

    @lru_cache(MOST_KINDS)
    def batch_of(size: int, requests: int) -> Callable[[float], None]:
        """Counts one such batch, given its seconds: one note, where there are many to take."""
        counted = statistics.batch_counter(key, size, requests)

        def count(seconds: float) -> None:
            compute.observe(seconds)
            rows.observe(size)
            images.inc(size)
            counted(seconds)

        return count

    def count_wait(seconds: float) -> None:
        queue.observe(seconds)
        waited(seconds)

    def on_batch(report: BatchReport) -> None:
        note(batch_of(report.rows, report.tickets), report.compute_seconds)
        statistics.batch_ended(key)
        if report.predicted_seconds is not None:
            note(error.observe, abs(report.compute_seconds - report.predicted_seconds))
        if not (wide and report.alone):
            compare(report)
        also(report)

    return Watchers(on_batch, partial(note, count_wait), metrics.engine_hung.labels(*labels).inc)
