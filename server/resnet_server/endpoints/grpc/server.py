"""The gRPC side of one process: services on a port, and a door that opens and closes in order."""

import asyncio
import contextlib
import time
from importlib.metadata import version as package_version

from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp

from resnet_server.batching.held_bytes import HeldBytes
from resnet_server.build_form import build_form
from resnet_server.endpoints.address import bare, check_unix, is_unix, written
from resnet_server.endpoints.answer_cache import AnswerCache
from resnet_server.endpoints.call_writers import observer_of
from resnet_server.endpoints.decoding.budget import WaitingBudget
from resnet_server.endpoints.decoding.pool import DecoderPool
from resnet_server.endpoints.error_status import Border
from resnet_server.endpoints.grpc import classifier, health, inference
from resnet_server.endpoints.grpc.classifier import ClassifierService
from resnet_server.endpoints.grpc.connections import arguments_of
from resnet_server.endpoints.grpc.door import Door
from resnet_server.endpoints.grpc.health import HealthService
from resnet_server.endpoints.grpc.inference import InferenceService
from resnet_server.endpoints.grpc.methods import add_service
from resnet_server.endpoints.grpc.model_config import ModelConfigService
from resnet_server.endpoints.grpc.reflection import ReflectionService
from resnet_server.endpoints.grpc.repository import RepositoryService
from resnet_server.endpoints.grpc.run_time_settings import RunTimeSettingsService, TraceSettings
from resnet_server.endpoints.grpc.shared_memory import SharedMemoryService
from resnet_server.endpoints.grpc.statistics import StatisticsService
from resnet_server.endpoints.http import web_page
from resnet_server.endpoints.http.classify import RestClassify
from resnet_server.endpoints.http.deflated import Deflated
from resnet_server.endpoints.http.guard import GuardedApplication
from resnet_server.endpoints.http.inference import RestInference
from resnet_server.endpoints.http.models_page import RestModels
from resnet_server.endpoints.http.operations import RestOperations
from resnet_server.endpoints.http.server import HttpServer, application
from resnet_server.endpoints.probes import Probes
from resnet_server.endpoints.security.access import access_of
from resnet_server.endpoints.security.certificates import certificates_of
from resnet_server.endpoints.security.guard import Guard
from resnet_server.endpoints.shared_memory import SharedRegions
from resnet_server.engines.device import available_cores
from resnet_server.errors import StartError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.registry import Registry
from resnet_server.models.shadow import ShadowTraffic
from resnet_server.models.stage import Control
from resnet_server.settings import Settings
from resnet_server.transport.api import Transport
from resnet_server.transport.choice import new_server

SERVICES = (inference.SERVICE.full_name, classifier.SERVICE.full_name)
REFUSE_SECONDS, MOST_REFUSE_SECONDS = 0.25, 2.0
LEAST_COMPRESSED = 1024  # bytes of an answer over HTTP


class Listener:
    """Binds the port when made, so that a port in use is known at once.

    From `start` on it answers, health and liveness foremost: until `open`, calls that compute are told that models are loading.
    """

    def __init__(
        self,
        settings: Settings,
        registry: Registry,
        metrics: Metrics,
        control: Control | None = None,
        shared_port: bool = False,
        sharers: int = 1,
    ) -> None:
        self._registry = registry
        self._metrics = metrics
        self._expected: set[tuple[str, str]] = set()
        metrics.on_dropped.append(lambda *key: self._expected.discard(key))
        self._border = Border(metrics, time.monotonic)
        self._access = access_of(settings, metrics.count_reading("tokens"), sharers)
        self._border.observer = observer_of(settings, self._access.name_of, metrics.calls_unwritten.inc)
        self._guard = Guard(self._access, self._border, time.monotonic)
        transport = new_server(settings.transport, [*arguments_of(settings), ("grpc.so_reuseport", int(shared_port))], self._guard)
        metrics.transport_info.labels(transport.name, transport.reason).set(1)
        metrics.build_info.labels(build_form()).set(1)
        self._server = transport.server
        half = settings.max_held_bytes // 2
        messages, images = HeldBytes(half), WaitingBudget(half)
        metrics.watch_held(half, messages=lambda: messages.held, images=lambda: images.held)
        cache = AnswerCache(settings.cache_bytes // sharers, metrics) if settings.cache_bytes else None
        self._door = Door(registry, messages, access=self._access, cache=cache)
        self._decoders = DecoderPool(max(1, available_cores() // sharers), settings.max_image_pixels, images)
        self._reflection = ReflectionService((*SERVICES, health.SERVICE.full_name))
        self._shadows = ShadowTraffic(registry, metrics)
        self._certificates = certificates_of(settings, metrics.count_reading("tls"))
        self._add_services(settings, transport, control, several=shared_port)
        self.port = self._bind(settings)
        self._http = self._bind_http(settings, shared_port)
        self.http_port = 0 if self._http is None else self._http.port
        self.probes = Probes(settings, self._health, self._health_routes, shared_port)

    def _bind(self, settings: Settings) -> int:
        address = written(settings.host, settings.grpc_port)
        if is_unix(settings.host):
            check_unix(settings.host)
        try:
            if self._certificates is not None:
                return self._server.add_secure_port(address, self._certificates.credentials())
            return self._server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(f"grpc-port: {address} cannot be opened; is another server running there?") from None

    def _bind_http(self, settings: Settings, shared_port: bool) -> HttpServer | None:
        if settings.http_port is None:
            return None
        tls = None if self._certificates is None else self._certificates.context()
        guarded: ASGIApp = GuardedApplication(application(self._routes), self._routes, self._guard)
        if settings.compression == "gzip":
            guarded = GZipMiddleware(Deflated(guarded, LEAST_COMPRESSED), LEAST_COMPRESSED)
        return HttpServer(guarded, bare(settings.host), settings.http_port, shared_port, tls)

    def _add_services(self, settings: Settings, transport: Transport, control: Control | None, several: bool) -> None:
        self._regions = SharedRegions(settings.max_held_bytes) if settings.allow_shared_memory else None
        if self._regions is not None:
            self._door.chores.append(self._regions.drop_dead)
        traces = TraceSettings(settings.traces, self._border.observer)
        extensions = (
            ModelConfigService(self._registry, self._border, settings.versions),
            StatisticsService(self._registry, self._border, self._metrics),
            RepositoryService(self._registry, self._border, control),
            RunTimeSettingsService(self._registry, self._border, self._access, traces, several),
            SharedMemoryService(self._border, self._regions),
        )
        version = package_version("resnet-serving")
        inferences = InferenceService(self._registry, self._border, self._door, version, extensions, self._regions)
        inferences.add_to(transport)
        classifications = ClassifierService(self._border, self._door, self._decoders, settings.max_queue_rows, time.monotonic)
        classifications.add_to(self._server)
        rest = RestInference(inferences, self._registry, settings.max_message_bytes)
        self._health_routes = rest.health_routes()
        self._routes = [
            *rest.routes(),
            *RestOperations(rest.call).routes(),
            *RestClassify(classifications, settings.max_message_bytes).routes(),
            *RestModels(classifications).routes(),
            *web_page.routes(),
        ]
        self._health = HealthService(self._registry, SERVICES, lambda: self._door.is_alive)
        add_service(self._server, health.SERVICE, self._health)
        if settings.reflection:
            self._reflection.add_to(self._server)

    async def start(self) -> None:
        """Answer calls, and look after the batchers."""
        self._door.start()
        self._decoders.start()
        self._shadows.start()
        await self._server.start()
        if self._http is not None:
            await self._http.start()
        await self.probes.start()

    def open(self) -> None:
        """Let calls compute: every model in the registry is warm by now."""
        self._border.expect("", "")
        self._registry.watch(self._expect_all)
        self._registry.state = "ready"

    def _expect_all(self) -> None:
        for key in {(model.name, model.version) for model in self._registry.ready} - self._expected:
            self._expected.add(key)
            self._border.expect(*key)

    async def close(self, seconds: float) -> None:
        """NOT_SERVING first, so that balancers look elsewhere; then refuse new calls, finish the running ones, and drain the models.

        All of that within `seconds`. A new call is answered UNAVAILABLE, which callers repeat elsewhere, and balancers without their help.
        """
        end = time.monotonic() + seconds
        self._registry.state = "draining"
        self._reflection.close()
        await self._shadows.close()
        await self._refuse(min(MOST_REFUSE_SECONDS, seconds / 2))
        left = max(0.0, end - time.monotonic())
        await asyncio.gather(self._server.stop(left), *([self._http.close(left)] if self._http is not None else []))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drain(), max(0.0, end - time.monotonic()))
        await asyncio.gather(*(model.batcher.close() for model in self._registry.ready))
        if self._border.observer is not None:
            await asyncio.to_thread(self._border.observer.close)
        await asyncio.gather(self._door.close(), self._decoders.close(), self.probes.close(max(0.0, end - time.monotonic())))
        if self._regions is not None:
            self._regions.close()

    async def _refuse(self, seconds: float) -> None:
        """Until callers have gone elsewhere: none has come for REFUSE_SECONDS; but no longer than `seconds`."""
        end, seen = time.monotonic() + seconds, -1
        while seen != self._registry.turned_away and (left := end - time.monotonic()) > 0:
            seen = self._registry.turned_away
            await asyncio.sleep(min(REFUSE_SECONDS, left))

    async def _drain(self) -> None:
        await asyncio.gather(*(model.batcher.drain() for model in self._registry.ready))
