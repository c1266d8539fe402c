"""A model that is ready: what is known of it, and the batcher in front of its engines."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from resnet_proto.manifest_pb2 import Artifact, Manifest
from resnet_proto.sample_check import SampleCheck

from resnet_server.batching.batcher import Batcher
from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.row_queue import NORMAL
from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import Images, Logits
from resnet_server.errors import InvalidRequestError
from resnet_server.models.accuracy import certified, stated
from resnet_server.models.model_settings import NONE, ModelSettings
from resnet_server.planning.plan import Plan
from resnet_server.planning.plan_watch import PlanWatch

LET_GO_SECONDS = 1.0  # a call that has just looked up the batcher of the old plan queues its rows within this time


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
    def in_shadow(self) -> bool:
        """Whether it answers only those who name its version, and gets copies of what others answer."""
        return self.own.in_shadow(self.manifest.version)

    @property
    def artifact(self) -> Artifact:
        """The file that is served."""
        return next(artifact for artifact in self.manifest.artifacts if artifact.precision == self.precision)

    @property
    def platform(self) -> str:
        """What computes, as metadata and configuration name it."""
        return f"{self.plan.runtime}_{self.provider}_{self.precision}" + ("" if self.certified else "_UNCERTIFIED")

    @property
    def certificate_id(self) -> str:
        """Of the certificate that holds; empty without one."""
        return self.artifact.certificate.id if self.certified else ""

    @property
    def accuracy(self) -> float | None:
        """Of the file that is served, 0..1; None where neither training nor certificate says."""
        if not self.certified:
            return None
        found = stated(self.manifest, self.artifact)
        return certified(self.artifact) if found is None else found

    def check_demand(self, demand: Demand) -> None:
        """Raise InvalidRequestError for a demand that this network does not meet: it has no other one to offer."""
        depth, accuracy = self.manifest.network.depth, self.accuracy
        if demand.max_depth and depth > demand.max_depth:
            raise InvalidRequestError(f"max_depth: {demand.max_depth}; '{self.manifest.name}' has {depth} layers")
        if demand.min_accuracy and (accuracy is None or accuracy < demand.min_accuracy):
            has = "is not known" if accuracy is None else f"is {accuracy:g}"
            raise InvalidRequestError(f"min_accuracy: {demand.min_accuracy:g}; that of '{self.manifest.name}' {has}")

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


class Tap(Protocol):
    """Takes copies of calls that were answered, for versions in shadow. None of this may raise or wait."""

    def copy(self, rows: Images, logits: Logits) -> None:
        """Of UINT8 [n, h, w, 3] that were answered with FP32 [n, classes]; both are kept for a while, and must not change."""


class ServedModel:
    """A model that is ready: its info, and the batcher in front of its engines. `watch` compares its batches with its plan.

    `tap`: where versions in shadow get copies of its calls.
    """

    def __init__(self, info: ModelInfo, batcher: Batcher, cost: CostModel, watch: PlanWatch) -> None:
        self.info = info
        self.batcher = batcher
        self.cost = cost
        self.watch = watch
        self.name, self.version, self.precision = info.key
        self.manifest, self.labels = info.manifest, info.labels
        self.properties = info.properties()
        self._on_engines: Callable[[int], None] = lambda _: None
        self.tap: Tap | None = None
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

    async def infer(self, rows: Images, deadline: float | None, priority: int = NORMAL, demand: Demand = ANY) -> Answer:
        """Compute UINT8 [n, h, w, 3]; see `Batcher.submit`."""
        return await self.batcher.submit(rows, deadline, priority, demand)

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
