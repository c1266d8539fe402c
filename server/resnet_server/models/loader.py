"""From a published version to a model that is warm: the best plan here, engines that hold its certificate, and a batcher."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

from resnet_proto.manifest import PRECISIONS, ManifestError, ReplaySample, check_certificate, read_replay
from resnet_proto.sample_check import Expected

from resnet_server.engines.api import CUDA_PROVIDER, ONNXRUNTIME, RUNTIME_NAMES, Device, Engine, EngineSpec, NetworkFile
from resnet_server.engines.gpu.memory import GpuMemory, open_gpu_memory
from resnet_server.engines.process.engine import ProcessEngine
from resnet_server.engines.runtimes import computes_in_process, own_sizes
from resnet_server.engines.thread_engine import ThreadEngine
from resnet_server.errors import EngineError, StartError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.assembly import assemble
from resnet_server.models.certificate_replay import replay
from resnet_server.models.description import describe, forget, log_ready
from resnet_server.models.loaded import AnyEngine, Loaded, Origin, ReplayTask, close_all
from resnet_server.models.plan_keeper import Kept
from resnet_server.models.repository import Candidate, Published
from resnet_server.models.served_model import ModelInfo, Replay, ServedModel
from resnet_server.planning.plan import Plan
from resnet_server.planning.planner import Members, ModelFile, Planned, Planner
from resnet_server.planning.report import log_plan
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

Key = tuple[str, str, str]
"""Name, version and precision: the labels of a model's metrics."""
Measure = Callable[[Planner, Sequence[ModelFile], Members], Planned]


NICENESS = 19
"""Of what measures a plan beside models that serve, and of engines in shadow: they get the time that others leave."""
PAUSES = 3.0
"""Beside models that serve, a replay rests so many times as long as it computes: it takes a quarter of a core."""


class Loader:
    """Loads versions one after the other, on the same devices, with the server's settings and each model's own."""

    def __init__(self, settings: Settings, devices: Sequence[Device], metrics: Metrics) -> None:
        self._settings = settings
        self._devices = devices
        self._metrics = metrics
        self._measuring: set[Planner] = set()
        self.in_process = computes_in_process(settings.engine_mode)
        self._watch_gpus()

    def give_up(self) -> None:
        """End what measures a plan, if something does: the server stops."""
        for planner in tuple(self._measuring):
            planner.give_up()

    async def load(self, published: Published, like: Sequence[Loaded] | None = None) -> list[Loaded]:
        """Return the model in each wanted precision, replayed and warm on every bucket.

        With `auto`, that is the certified precision with the best plan that holds here; otherwise those asked for by name, of
        which the first is the default. Raises ServingError if there is none.

        With `like`, others serve meanwhile and must not suffer: a plan is one that was kept, or that of an earlier version of the same
        network in `like`, or is measured in the time that they leave.
        """
        for precision, reason in published.rejected:
            log.warning("%s version %s: %s is not served: %s", published.name, published.version, precision, reason)
        wanted = published.own.applied_to(published.version, self._settings).precision
        if wanted == "auto":
            return [await self._load_best(published, tuple(candidate.artifact.precision for candidate in published.candidates), like)]
        async with contextlib.AsyncExitStack() as undo:
            models = [await self._load_next(published, precision, like, undo) for precision in parse_precisions(wanted)]
            undo.pop_all()
        return models

    async def _load_next(
        self, published: Published, precision: str, like: Sequence[Loaded] | None, undo: contextlib.AsyncExitStack
    ) -> Loaded:
        model = await self._load_best(published, (precision,), like)
        undo.push_async_callback(model.close)
        return model

    async def _load_best(self, published: Published, precisions: tuple[str, ...], like: Sequence[Loaded] | None) -> Loaded:
        started = time.monotonic()
        reasons = [reason for precision, reason in published.rejected if precision in precisions]
        try:
            sample = await asyncio.to_thread(read_replay, published.folder, published.manifest)
        except ManifestError as error:
            raise EngineError(str(error)) from None
        left = [candidate for candidate in published.candidates if candidate.artifact.precision in precisions]
        planned: Planned | None = None
        while left:
            planned = planned or await self._plan(published, left, like)
            reasons += planned.broken.values()
            candidate = next(c for c in left if c.artifact.precision == planned.plan.precision)
            log_plan(published.name, published.version, planned)
            try:
                model = await self._start(Origin(published, candidate, sample, like is not None), planned)
            except EngineError as error:
                other = await self._without(published, left, planned)
                what = (
                    candidate.artifact.precision
                    if other is None
                    else f"{candidate.artifact.precision} on {RUNTIME_NAMES[planned.plan.runtime]}"
                )
                log.warning("%s version %s: %s is not served: %s", published.name, published.version, what, error)
                reasons.append(str(error))
                if other is None:
                    left.remove(candidate)
                planned = other
                continue
            model.seconds = time.monotonic() - started
            return model
        held = ", ".join(candidate.artifact.precision for candidate in published.candidates)
        raise EngineError("; ".join(reasons) or f"precision: {', '.join(precisions)} is not certified; the version holds {held}")

    async def _without(self, published: Published, candidates: list[Candidate], planned: Planned) -> Planned | None:
        """The plan where the runtime of this one does not hold; None where there is none to fall back to."""
        planner = Planner(published.own.applied_to(published.version, self._settings), self.device)
        return await asyncio.to_thread(planner.without, planned, published.files(candidates))

    async def _plan(self, published: Published, candidates: list[Candidate], like: Sequence[Loaded] | None) -> Planned:
        own, files = published.own.applied_to(published.version, self._settings), published.files(candidates)
        if like is None:
            return await self.measured(Planner(own, self._devices[0]), Planner.plan, files)
        planner = Planner(own, self._devices[0], niceness=NICENESS)
        kept = await asyncio.to_thread(planner.kept, files)
        if kept is None and (taken_over := plan_of_the_same(published, candidates, [one.info for one in like])) is not None:
            return Planned(taken_over, {}, cached=False)
        return kept or await self.measured(planner, Planner.measure, files)

    @property
    def device(self) -> Device:
        """The first, for which plans are made."""
        return self._devices[0]

    async def measured(self, planner: Planner, how: Measure, files: list[ModelFile], members: Members = None) -> Planned:
        """Measured in a thread; ended with this, if it is cancelled."""
        self._measuring.add(planner)
        try:
            return await asyncio.to_thread(how, planner, files, members)
        finally:
            planner.give_up()
            self._measuring.discard(planner)

    async def _start(self, origin: Origin, planned: Planned) -> Loaded:
        published, candidate, sample = origin.published, origin.candidate, origin.sample
        manifest, plan = published.manifest, planned.plan
        labels = (published.name, published.version, candidate.artifact.precision)
        checks: list[Replay | None] = []

        async def check(engine: AnyEngine) -> None:
            checks.append(await self.check_here(origin, engine))

        engines = await self.open_engines(self.spec_of([origin], plan), plan, labels, check, origin.beside)
        certified = is_certified(published, candidate)
        if sample is not None and certified:
            keep_certified(engines, [ReplayTask(sample.images, expected_of(origin, sample, plan.runtime))])
        provider = self.device.provider_of(plan.runtime)
        info = ModelInfo(manifest, published.labels, candidate.artifact.precision, provider, certified, checks[-1], plan, published.own)
        log_ready(info, self._settings)
        planner = Planner(published.own.applied_to(published.version, self._settings), self.device, left_out=plan.left_out)
        return Loaded(info, engines, planner, published.files([candidate]), lambda planned: self._start(origin, planned))

    def spec_of(self, origins: Sequence[Origin], plan: Plan) -> EngineSpec:
        """Of an engine that computes these files, which have one input and one output."""
        first, *others = origins
        candidate, manifest = first.candidate, first.published.manifest
        return EngineSpec(
            candidate.path,
            self._devices[0],
            threads=plan.threads,
            wide_threads=plan.wide_threads,
            max_rows=plan.batch,
            height=manifest.input.height,
            width=manifest.input.width,
            classes=manifest.output.classes,
            sha256=candidate.artifact.sha256,
            channels=manifest.input.channels or 3,
            others=tuple(NetworkFile(other.candidate.path, other.candidate.artifact.sha256) for other in others),
            niceness=NICENESS if first.published.own.in_shadow(first.published.version) else 0,
            runtime=plan.runtime,
            own_sizes=own_sizes(plan.runtime, [origin.candidate.path for origin in origins]),
        )

    async def open_engines(
        self, spec: EngineSpec, plan: Plan, labels: Key, check: Callable[[AnyEngine], Awaitable[None]], beside: bool = False
    ) -> list[AnyEngine]:
        """Start the engines of a plan and `check` one of each kind, the first last; EngineError leaves none behind."""
        engines: list[AnyEngine] = []
        try:
            specs = [replace(spec, device=device) for device in self._devices for _ in range(plan.engines)]
            engines += [self._engine(each, self._metrics.engine_restarts.labels(*labels).inc) for each in specs]
            await self._open(engines, beside)
            for engine in reversed(engines if self.device.provider == CUDA_PROVIDER else engines[:1]):
                await check(engine)
        except BaseException:
            await close_all(engines)
            raise
        return engines

    def keep(self, loaded: Loaded, model: ServedModel) -> Kept:
        """How the plan of a model that is served here is measured again, and replaced."""

        async def measure() -> Plan:
            return (await self.measured(loaded.planner, Planner.measure, loaded.files, loaded.members)).plan

        async def swap(plan: Plan) -> None:
            other = await loaded.restart(Planned(plan, {}, cached=False))
            forget(loaded.info, self._metrics)
            old, loaded.info, loaded.engines = loaded.engines, other.info, other.engines
            try:
                describe(loaded, self._metrics)
                await model.swap(assemble(other.info, other.engines, self._settings, self._metrics))
            finally:
                await close_all(old)

        return Kept(model, measure, loaded.planner.give_up, swap)

    def _watch_gpus(self) -> None:
        for device in self._devices:
            memory = open_gpu_memory(device.id) if device.provider == CUDA_PROVIDER else None
            if memory is not None:
                self._show_memory(str(device), memory)

    def _show_memory(self, device: str, memory: GpuMemory) -> None:
        self._metrics.gpu_memory.labels(device, "used").set_function(lambda: memory.read().used)
        self._metrics.gpu_memory.labels(device, "total").set_function(lambda: memory.read().total)

    def _engine(self, spec: EngineSpec, on_restart: Callable[[], None]) -> AnyEngine:
        return ThreadEngine(spec) if self.in_process else ProcessEngine(spec, on_restart)

    async def _open(self, engines: list[AnyEngine], beside: bool) -> None:
        if not beside:
            await asyncio.gather(*(engine.open() for engine in engines))
            return
        for engine in engines:  # one start at a time takes one core at most from those that serve
            await engine.open()

    async def check_here(self, origin: Origin, engine: AnyEngine, network: int = 0) -> Replay | None:
        """Replay a certificate on a network of an engine; None where there is none. Raises EngineError where it does not hold."""
        published, candidate, sample = origin.published, origin.candidate, origin.sample
        if sample is None or not is_certified(published, candidate):
            return None
        started = time.monotonic()
        spec, expected = engine.spec, expected_of(origin, sample, engine.spec.runtime)
        pauses = PAUSES if origin.beside else 0.0
        check = await replay(engine, spec.buckets, bool(spec.wide_threads), sample.images, expected, pauses, network)
        result = Replay(check, time.monotonic() - started)
        labels = (published.name, published.version, candidate.artifact.precision)
        log.info(
            "%s version %s: the certificate holds here: %s on %d images in %d batch sizes, top-1 agreement %.2f %%, max error %.2g, %.2f s",
            *(*labels, result.check.images, len(spec.buckets)),
            *(100 * result.check.agreement, result.check.max_abs_error, result.seconds),
        )
        return result


def plan_of_the_same(published: Published, candidates: Sequence[Candidate], like: Sequence[ModelInfo]) -> Plan | None:
    """The plan of an earlier version of the same network in one of these precisions, to be measured again in calm; None without one."""
    precisions = {candidate.artifact.precision for candidate in candidates}
    for info in like:
        same = (info.manifest.network.variant, info.manifest.input) == (published.manifest.network.variant, published.manifest.input)
        alike = info.own == published.own and info.in_shadow == published.own.in_shadow(published.version)
        if same and alike and info.precision in precisions:
            reason = f"taken over from version {info.manifest.version}; to be measured in calm"
            return replace(info.plan, reason=reason, trials=tuple(replace(trial, share=0.0) for trial in info.plan.trials))
    return None


def expected_of(origin: Origin, sample: ReplaySample, runtime: str) -> Expected:
    """What a runtime must compute of the sample: certificates are made on ONNX Runtime."""
    expected = sample.expected(origin.published.manifest, origin.candidate.artifact)
    return replace(expected, elsewhere=runtime != ONNXRUNTIME)


def keep_certified(engines: Sequence[AnyEngine], tasks: Sequence[ReplayTask]) -> None:
    """Have the certificates replayed after every restart, in the largest bucket and each size that is compiled by itself.

    Before that an engine serves nobody.
    """
    for engine in engines:
        if isinstance(engine, ProcessEngine):
            buckets = engine.spec.buckets if engine.spec.own_sizes else engine.spec.buckets[-1:]
            engine.process.certify = partial(_certify, buckets, tuple(tasks))


async def _certify(buckets: tuple[int, ...], tasks: Sequence[ReplayTask], channel: Engine) -> None:
    for task in tasks:
        await replay(channel, buckets, False, task.images, task.expected, network=task.network)


def parse_precisions(text: str) -> tuple[str, ...]:
    """`int8,fp32` to its parts, in order; raise StartError for an unknown one."""
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    if not wanted or not set(wanted) <= set(PRECISIONS):
        raise StartError(f"precision: '{text}'; expected auto, or some of {', '.join(PRECISIONS)} separated by commas")
    return wanted


def is_certified(published: Published, candidate: Candidate) -> bool:
    """False only where --allow-uncertified let a version through."""
    try:
        check_certificate(published.manifest, candidate.artifact)
    except ManifestError:
        return False
    return True
