"""From a published version to a model that is warm: pick the precision, open the engines, start the batcher."""

import asyncio
import logging
import time

from resnet_proto.manifest import ManifestError, check_certificate

from resnet_server.batching import Batcher, BatchReport
from resnet_server.engines.device import CUDA_PROVIDER, Device, available_cores
from resnet_server.engines.in_process import InProcessEngine
from resnet_server.errors import EngineError
from resnet_server.metrics import Metrics
from resnet_server.registry import ServedModel
from resnet_server.repository import Candidate, Published
from resnet_server.settings import Settings

log = logging.getLogger(__name__)


class LoadedModel(ServedModel):
    """A served model with the engines it owns."""

    engines: list[InProcessEngine]

    async def drain(self) -> None:
        """Answer what is queued, then free the engines."""
        await self.batcher.drain()
        for engine in self.engines:
            engine.close()


class Loader:
    """Loads versions one after the other, with the same settings and device."""

    def __init__(self, settings: Settings, device: Device, metrics: Metrics) -> None:
        self._settings = settings
        self._device = device
        self._metrics = metrics

    async def load(self, published: Published) -> LoadedModel:
        """Return the model, warm on every bucket; raise ServingError with the reason if no certified precision runs."""
        started = time.monotonic()
        candidate, engines = await asyncio.to_thread(self._first_that_runs, published)
        model = self._assemble(published, candidate, engines)
        self._metrics.load_seconds.labels(model.name, model.version).set(time.monotonic() - started)
        return model

    def _first_that_runs(self, published: Published) -> tuple[Candidate, list[InProcessEngine]]:
        reasons = []
        for candidate in self._wanted(published):
            try:
                return candidate, self._open(published, candidate)
            except EngineError as error:
                reasons.append(str(error))
        raise EngineError("; ".join(reasons))

    def _wanted(self, published: Published) -> list[Candidate]:
        wanted = self._settings.precision
        found = [c for c in published.candidates if wanted in ("auto", c.artifact.precision)]
        if not found:
            held = ", ".join(c.artifact.precision for c in published.candidates)
            rejected = "".join(f"; {reason}" for precision, reason in published.rejected if precision == wanted)
            raise EngineError(f"precision: '{wanted}' is not certified here; the version holds {held}{rejected}")
        return found

    def _open(self, published: Published, candidate: Candidate) -> list[InProcessEngine]:
        count, threads = self.plan()
        spec = published.manifest.input
        engines = []
        for _ in range(count):
            engine = InProcessEngine(
                candidate.path, self._device, threads=threads, max_rows=self._settings.max_batch, height=spec.height, width=spec.width
            )
            engines.append(engine)
            engine.warm_up()
        return engines

    def plan(self) -> tuple[int, int]:
        """Engines and threads each: one thread each on every core (N sessions of one beat one of N), one engine on a GPU."""
        cores = available_cores()
        if self._device.provider == CUDA_PROVIDER:
            return self._settings.engines or 1, self._settings.threads or 1
        threads = self._settings.threads or (max(1, cores // self._settings.engines) if self._settings.engines else 1)
        return self._settings.engines or max(1, cores // threads), threads

    def _assemble(self, published: Published, candidate: Candidate, engines: list[InProcessEngine]) -> LoadedModel:
        name, version, metrics = published.name, published.version, self._metrics
        compute, rows = metrics.compute_seconds.labels(name, version), metrics.batch_rows.labels(name, version)
        images, depth = metrics.images.labels(name, version), metrics.queue_rows.labels(name, version)

        def on_batch(report: BatchReport) -> None:
            compute.observe(report.compute_seconds)
            rows.observe(report.rows)
            images.inc(report.rows)

        batcher = Batcher(
            engines,
            max_batch=self._settings.max_batch,
            max_queue_rows=self._settings.max_queue_rows,
            clock=asyncio.get_running_loop(),
            on_batch=on_batch,
            on_wait=metrics.queue_seconds.labels(name, version).observe,
            on_depth=depth.set,
        )
        certified = is_certified(published, candidate)
        model = LoadedModel(published.manifest, published.labels, candidate.artifact, self._device.provider, certified, batcher)
        model.engines = engines
        self._describe(model)
        return model

    def _describe(self, model: LoadedModel) -> None:
        certificate = model.artifact.certificate
        labels = (model.manifest.network.variant, model.artifact.precision, model.provider, certificate.id, str(model.certified).lower())
        self._metrics.model_info.labels(model.name, model.version, *labels).set(1)
        if model.certified:
            self._metrics.agreement.labels(model.name, model.version, model.artifact.precision).set(certificate.top1_agreement)
        else:
            log.warning("%s version %s is served UNCERTIFIED, as --allow-uncertified demands", model.name, model.version)
        engine = model.engines[0]
        log.info(
            "%s version %s is ready: %s on %s, %d engines x %d threads, up to %d rows, certificate %s",
            *(model.name, model.version, model.artifact.precision, model.provider, len(model.engines), engine.threads),
            *(model.batcher.max_batch, certificate.id[:12] if model.certified else "NONE"),
        )


def is_certified(published: Published, candidate: Candidate) -> bool:
    """False only where --allow-uncertified let a version through."""
    try:
        check_certificate(published.manifest, candidate.artifact)
    except ManifestError as error:
        log.warning("%s version %s: %s", published.name, published.version, error)
        return False
    return True
