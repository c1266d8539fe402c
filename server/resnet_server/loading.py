"""From a published version to a model that is warm: the fastest precision that holds here, its engines and batcher."""

import asyncio
import logging
import time

from resnet_proto.manifest import PRECISIONS, ManifestError, ReplaySample, check_certificate, read_replay

from resnet_server.batching import Batcher, BatchReport
from resnet_server.clock import LoopClock
from resnet_server.engines.device import CUDA_PROVIDER, Device, available_cores
from resnet_server.engines.in_process import InProcessEngine
from resnet_server.errors import EngineError, StartError
from resnet_server.metrics import Metrics
from resnet_server.registry import Replay, ServedModel
from resnet_server.replay import replay
from resnet_server.repository import Candidate, Published
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

TRIAL_ROWS = 8
TRIAL_SECONDS = 0.2


Chosen = tuple[Candidate, list[InProcessEngine], Replay | None]


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

    async def load(self, published: Published) -> list[LoadedModel]:
        """Return the model in each wanted precision, replayed and warm on every bucket.

        With `auto`, that is the fastest certified precision that holds here; otherwise those asked for by name, of
        which the first is the default. Raises ServingError if there is none.
        """
        if self._settings.precision == "auto":
            return [await self._load_first(published, tuple(candidate.artifact.precision for candidate in published.candidates))]
        wanted = parse_precisions(self._settings.precision)
        return [await self._load_first(published, (precision,)) for precision in wanted]

    async def _load_first(self, published: Published, precisions: tuple[str, ...]) -> LoadedModel:
        started = time.monotonic()
        model = self._assemble(published, *await asyncio.to_thread(self._fastest_that_holds, published, precisions))
        self._metrics.load_seconds.labels(model.name, model.version, model.precision).set(time.monotonic() - started)
        return model

    def _fastest_that_holds(
        self, published: Published, precisions: tuple[str, ...]
    ) -> tuple[Candidate, list[InProcessEngine], Replay | None]:
        for precision, reason in published.rejected:
            log.warning("%s version %s: %s is not served: %s", published.name, published.version, precision, reason)
        reasons = [reason for precision, reason in published.rejected if precision in precisions]
        try:
            sample = read_replay(published.folder, published.manifest)
        except ManifestError as error:
            raise EngineError(str(error)) from None
        for candidate, first in self._by_speed(published, precisions, reasons):
            try:
                check = self._check_here(published, candidate, first, sample)
                count = self.plan()[0]
                return candidate, [first, *(self._open(published, candidate) for _ in range(count - 1))], check
            except EngineError as error:
                log.warning("%s version %s: %s is not served: %s", published.name, published.version, candidate.artifact.precision, error)
                reasons.append(str(error))
        held = ", ".join(candidate.artifact.precision for candidate in published.candidates)
        raise EngineError("; ".join(reasons) or f"precision: {', '.join(precisions)} is not certified; the version holds {held}")

    def _by_speed(self, published: Published, precisions: tuple[str, ...], reasons: list[str]) -> list[tuple[Candidate, InProcessEngine]]:
        """Open every wanted precision and order them by measured batch time; what does not open goes to `reasons`."""
        opened = []
        for candidate in (candidate for candidate in published.candidates if candidate.artifact.precision in precisions):
            try:
                opened.append((candidate, self._open(published, candidate)))
            except EngineError as error:
                reasons.append(str(error))
        if len(opened) < 2:
            return opened
        times = {id(engine): batch_seconds(engine, min(TRIAL_ROWS, engine.buckets[-1])) for _, engine in opened}
        opened.sort(key=lambda pair: times[id(pair[1])])
        shown = ", ".join(f"{c.artifact.precision} {1e3 * times[id(e)]:.2f} ms" for c, e in opened)
        log.info("%s version %s: a batch of %d takes %s", published.name, published.version, TRIAL_ROWS, shown)
        return opened

    def _check_here(
        self, published: Published, candidate: Candidate, engine: InProcessEngine, sample: ReplaySample | None
    ) -> Replay | None:
        if sample is None or not is_certified(published, candidate):
            return None
        started = time.monotonic()
        result = Replay(replay(engine, sample, candidate.artifact.certificate.policy), time.monotonic() - started)
        labels = (published.name, published.version, candidate.artifact.precision)
        self._metrics.replay_agreement.labels(*labels).set(result.check.agreement)
        self._metrics.replay_seconds.labels(*labels).set(result.seconds)
        log.info(
            "%s version %s: the certificate holds here: %s on %d images in %d batch sizes, top-1 agreement %.2f %%, max error %.2g, %.2f s",
            *(*labels, result.check.images, len(engine.buckets)),
            *(100 * result.check.agreement, result.check.max_abs_error, result.seconds),
        )
        return result

    def _open(self, published: Published, candidate: Candidate) -> InProcessEngine:
        spec = published.manifest.input
        _, threads = self.plan()
        rows = self._settings.max_batch
        engine = InProcessEngine(candidate.path, self._device, threads=threads, max_rows=rows, height=spec.height, width=spec.width)
        engine.warm_up()
        return engine

    def plan(self) -> tuple[int, int]:
        """Engines and threads each: one thread each on every core (N sessions of one beat one of N), one engine on a GPU."""
        cores = available_cores()
        if self._device.provider == CUDA_PROVIDER:
            return self._settings.engines or 1, self._settings.threads or 1
        threads = self._settings.threads or (max(1, cores // self._settings.engines) if self._settings.engines else 1)
        return self._settings.engines or max(1, cores // threads), threads

    def _assemble(self, published: Published, candidate: Candidate, engines: list[InProcessEngine], check: Replay | None) -> LoadedModel:
        labels, metrics = (published.name, published.version, candidate.artifact.precision), self._metrics
        compute, rows, images = metrics.compute_seconds.labels(*labels), metrics.batch_rows.labels(*labels), metrics.images.labels(*labels)

        def on_batch(report: BatchReport) -> None:
            compute.observe(report.compute_seconds)
            rows.observe(report.rows)
            images.inc(report.rows)

        batcher = Batcher(
            engines,
            max_batch=self._settings.max_batch,
            max_queue_rows=self._settings.max_queue_rows,
            clock=LoopClock(),
            on_batch=on_batch,
            on_wait=metrics.queue_seconds.labels(*labels).observe,
            on_depth=metrics.queue_rows.labels(*labels).set,
        )
        certified = is_certified(published, candidate)
        model = LoadedModel(published.manifest, published.labels, candidate.artifact, self._device.provider, certified, check, batcher)
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
        log.info(
            "%s version %s is ready: %s on %s, %d engines x %d threads, up to %d rows, certificate %s",
            *(model.name, model.version, model.artifact.precision, model.provider, len(model.engines), model.engines[0].threads),
            *(model.batcher.max_batch, certificate.id[:12] if model.certified else "NONE"),
        )


def parse_precisions(text: str) -> tuple[str, ...]:
    """`int8,fp32` to its parts, in order; raise StartError for an unknown one."""
    wanted = tuple(part.strip() for part in text.split(",") if part.strip())
    if not wanted or not set(wanted) <= set(PRECISIONS):
        raise StartError(f"precision: '{text}'; expected auto, or some of {', '.join(PRECISIONS)} separated by commas")
    return wanted


def batch_seconds(engine: InProcessEngine, rows: int) -> float:
    """The least time of a batch of `rows` rows seen within a fifth of a second."""
    best, started = float("inf"), time.monotonic()
    while time.monotonic() - started < TRIAL_SECONDS:
        before = time.perf_counter()
        engine.compute(rows)
        best = min(best, time.perf_counter() - before)
    return best


def is_certified(published: Published, candidate: Candidate) -> bool:
    """False only where --allow-uncertified let a version through."""
    try:
        check_certificate(published.manifest, candidate.artifact)
    except ManifestError:
        return False
    return True
