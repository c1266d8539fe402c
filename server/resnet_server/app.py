"""The composition root: everything is built and wired here, and taken down in reverse."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as package_version
from typing import Self

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    start_http_server,
)
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_proto.classifier_pb2_grpc import add_ClassifierServicer_to_server

from resnet_server.engines.device import available_cores, pick_device
from resnet_server.errors import ServingError, StartError
from resnet_server.loading import Loader
from resnet_server.metrics import Metrics
from resnet_server.registry import Refused, Registry
from resnet_server.repository import Published, scan
from resnet_server.services.classifier import ClassifierService
from resnet_server.services.inference import InferenceService
from resnet_server.services.status import Border
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

SERVICES = (
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name,
)


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `announce` gets one line once the ports are known and open.

    Raises StartError where the server cannot start: no repository, a port in use, a device that is not there.
    """
    async with App(settings) as app:
        announce(f"resnet-server: listening on grpc={settings.host}:{app.grpc_port} metrics={settings.host}:{app.metrics_port}")
        await app.stopped()


class App:
    """One server; entering starts it in order, leaving stops it in reverse order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry()
        self.grpc_port = 0
        self.metrics_port = 0
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the package has no stubs for it
        self._exit = contextlib.AsyncExitStack()
        self._stop = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._exit.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exit.aclose()

    async def stopped(self) -> None:
        """Return when SIGTERM or SIGINT arrives."""
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        await self._stop.wait()
        log.info("stopping: draining for at most %g s", self.settings.drain_seconds)

    async def _start(self) -> None:
        settings = self.settings
        device = pick_device(settings.device)
        log.info("device: %s (%s)", device.kind, device.reason)
        found = scan(
            settings.repository,
            models=settings.models,
            all_versions=settings.versions == "all",
            allow_uncertified=settings.allow_uncertified,
        )
        metrics = self._open_metrics()
        server = await self._open_listener(metrics)
        await self._load(Loader(settings, device, metrics), metrics, found)
        await self._listen(server)

    def _open_metrics(self) -> Metrics:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a start time beside every counter doubles the page
        registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        try:
            httpd, thread = start_http_server(self.settings.metrics_port, self.settings.host, registry)
        except OSError as error:
            raise StartError(f"metrics-port: {self.settings.metrics_port} cannot be opened: {error.strerror}") from None
        self.metrics_port = httpd.server_port

        def stop() -> None:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

        self._exit.callback(stop)
        return Metrics(registry)

    async def _open_listener(self, metrics: Metrics) -> grpc.aio.Server:
        """Bind the port before the models load, so that a port in use is known at once; serving begins in `_listen`."""
        limit = self.settings.max_message_bytes
        options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit), ("grpc.so_reuseport", 0)]
        server = grpc.aio.server(options=options)
        border = Border(metrics, time.monotonic)
        decoders = ThreadPoolExecutor(available_cores(), "decode")
        self._exit.callback(decoders.shutdown, wait=True, cancel_futures=True)
        classifier = ClassifierService(self.registry, border, decoders, self.settings.max_image_pixels, time.monotonic)
        InferenceService(self.registry, border, package_version("resnet-serving")).add_to(server)
        add_ClassifierServicer_to_server(classifier, server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        reflection.enable_server_reflection((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
        address = f"{self.settings.host}:{self.settings.grpc_port}"
        try:
            self.grpc_port = server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(f"grpc-port: {address} cannot be opened; is another server running there?") from None
        return server

    async def _load(self, loader: Loader, metrics: Metrics, found: list[Published]) -> None:
        for published in found:
            try:
                if published.refusal:
                    raise ServingError(published.refusal)
                models = await loader.load(published)
            except StartError:
                raise
            except ServingError as error:
                log.error("%s version %s is refused: %s", published.name, published.version, error)
                self.registry.refused.append(Refused(published.name, published.version, str(error)))
                metrics.model_refused.labels(published.name, published.version).set(1)
                continue
            for model in models:
                self.registry.ready.append(model)
                self._exit.push_async_callback(model.close)
                self._exit.push_async_callback(self._within_drain, model.drain)
        if not self.registry.ready:
            raise StartError(f"repository: every model in {self.settings.repository} is refused; see the log above")

    async def _within_drain(self, drain: Callable[[], Awaitable[None]]) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(drain(), self.settings.drain_seconds)

    async def _listen(self, server: grpc.aio.Server) -> None:
        await server.start()
        self._exit.push_async_callback(self._close_door, server)
        self.registry.state = "ready"
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def _close_door(self, server: grpc.aio.Server) -> None:
        """NOT_SERVING first, so that balancers look elsewhere; then refuse new calls and finish the running ones."""
        await self._health.enter_graceful_shutdown()
        await server.stop(self.settings.drain_seconds)
        self.registry.state = "draining"
