"""A model that is ready: what is known of it, and the batcher in front of its engines, wired to the metrics."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_proto.sample_check import SampleCheck

from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import BatchReport, Limits, Watchers
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.row_queue import NORMAL
from resnet_server.batching.tally import Tally
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import CPU_PROVIDER, Engine, Images
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.model_settings import NONE, ModelSettings
from resnet_server.planning.plan import Plan
from resnet_server.planning.plan_watch import PlanWatch
from resnet_server.processes.clock import LoopClock
from resnet_server.settings import Settings

MOST_KINDS = 4096
"""Of batches, by rows and requests: for so many the way to count them is kept."""
LET_GO_SECONDS = 1.0  # in which whoever has just looked up the batcher of a plan that goes has queued its rows


@dataclass(frozen=True)
class Replay:
    """A certificate replayed here: what was found, and how long it took."""

    check: SampleCheck
    seconds: float


@dataclass(frozen=True)
class ModelInfo:
    """All that callers and front ends may know of a model; it crosses the border to processes of ours."""

    manifest: Manifest
    labels: tuple[str, ...]
    precision: str
    provider: str
    certified: bool
    replay: Replay | None
    plan: Plan
    own: ModelSettings = NONE

    @property
    def key(self) -> tuple[str, str, str]:
        """Name, version, precision: the labels of its metrics."""
        return self.manifest.name, self.manifest.version, self.precision

    @property
    def artifact(self) -> Artifact:
        """The file that is served."""
        return next(artifact for artifact in self.manifest.artifacts if artifact.precision == self.precision)

    @property
    def platform(self) -> str:
        """What computes, as metadata and configuration name it."""
        return f"onnxruntime_{self.provider}_{self.precision}" + ("" if self.certified else "_UNCERTIFIED")

    @property
    def certificate_id(self) -> str:
        """Of the certificate that holds; empty without one."""
        return self.artifact.certificate.id if self.certified else ""

    def properties(self) -> dict[str, str]:
        """What callers are told of how it computes."""
        properties = {"precision": self.precision, "provider": self.provider, "certified": str(self.certified).lower()}
        properties["certificate"] = self.certificate_id or "UNCERTIFIED"
        if self.replay is not None:
            check = self.replay.check
            properties["replay_top1_agreement"] = f"{check.agreement:.6f}"
            properties["replay_max_abs_error"] = f"{check.max_abs_error:.6g}"
            properties["replay_images"] = str(check.images)
            properties["replay_seconds"] = f"{self.replay.seconds:.3f}"
        plan = self.plan
        properties["plan"] = f"{plan.engines} engines x {plan.threads} threads, batches of up to {plan.batch}"
        return properties


class ServedModel:
    """A model that is ready: its info, and the batcher in front of its engines. `watch` compares its batches with its plan."""

    def __init__(self, info: ModelInfo, batcher: Batcher, cost: CostModel, watch: PlanWatch) -> None:
        self.info = info
        self.batcher = batcher
        self.cost = cost
        self.watch = watch
        self.name, self.version, self.precision = info.key
        self.manifest, self.labels = info.manifest, info.labels
        self.properties = info.properties()
        self._on_engines: Callable[[int], None] = lambda _: None
        self._users = 0
        self._unused = asyncio.Event()

    @property
    def engines_up(self) -> int:
        """Engines that take batches now; none: nothing can be answered."""
        return self.batcher.engines_up

    def watch_engines(self, changed: Callable[[int], None]) -> None:
        """Call `changed` with `engines_up` on the event loop, now and after each change."""
        self._on_engines = changed
        self.batcher.watch_engines(changed)

    async def infer(self, rows: Images, deadline: float | None, priority: int = NORMAL) -> Answer:
        """Compute UINT8 [n, h, w, 3]; see `Batcher.submit`."""
        return await self.batcher.submit(rows, deadline, priority)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """While a call on the event loop prepares rows for it, it is not shut."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._unused.set()

    async def retire(self, seconds: float) -> None:
        """It is gone: answer those who found it before, within `seconds`, and end."""
        try:
            await asyncio.sleep(LET_GO_SECONDS)
            async with asyncio.timeout(seconds):
                while self._users:
                    self._unused.clear()
                    await self._unused.wait()
                await self.batcher.drain()
        except TimeoutError:
            pass
        finally:
            await self.batcher.close()

    def replan(self, plan: Plan) -> None:
        """Take the figures of another measurement of the same plan."""
        self.info = replace(self.info, plan=plan)
        self.cost.replan(plan.fixed, plan.per_row)
        self.watch.renew(plan.fixed, plan.per_row)

    async def swap(self, other: "ServedModel") -> None:
        """Serve from now on as `other` does, the same model in another plan; returns when all that came before is answered."""
        old = self.batcher
        self.info, self.properties, self.cost, self.watch = other.info, other.properties, other.cost, other.watch
        self.batcher = other.batcher
        old.watch_engines(lambda _: None)
        self.batcher.watch_engines(self._on_engines)
        await asyncio.sleep(LET_GO_SECONDS)
        await old.drain()


def assemble(info: ModelInfo, engines: Sequence[Engine], settings: Settings, metrics: Metrics, tally: Tally | None = None) -> ServedModel:
    """Put a batcher in front of warm engines; `tally` is what front ends of the same engines count in common."""
    plan, settings = info.plan, info.own.applied(settings)
    grain = plan.grain if info.provider == CPU_PROVIDER else 1  # elsewhere front end and engines share no cores
    limits = Limits(settings.max_batch, plan.batch, settings.max_queue_rows, settings.max_delay, grain, settings.frontends or 1)
    cost, watch = CostModel(plan.fixed, plan.per_row, bool(plan.wide_threads)), PlanWatch(plan.fixed, plan.per_row)
    batcher = Batcher(engines, limits, LoopClock(), Admission(cost, plan.batch), watchers(info, metrics, watch), tally)
    served = ServedModel(info, batcher, cost, watch)
    metrics.queue_rows.labels(*info.key).set_function(lambda: batcher.queued_rows)
    metrics.plan_error.labels(*info.key).set_function(lambda: watch.times)
    return served


def watchers(info: ModelInfo, metrics: Metrics, watch: PlanWatch) -> Watchers:
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
            watch.note(report.rows, report.compute_seconds)

    return Watchers(on_batch, partial(note, count_wait), metrics.engine_hung.labels(*labels).inc)
