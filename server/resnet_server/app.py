"""The composition root: everything is built and wired here, and taken down in reverse."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Self

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from resnet_server.endpoints.grpc.server import Listener
from resnet_server.engines.device import available_cores, pick_devices
from resnet_server.engines.process.engine import ProcessEngine
from resnet_server.errors import ServingError, StartError
from resnet_server.frontends.handoff import Handoff
from resnet_server.frontends.port import SharedPort
from resnet_server.frontends.supervisor import FrontEnds
from resnet_server.metrics.merged_scrape import MergedCollector
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.loader import Loaded, Loader, resident_bytes
from resnet_server.models.registry import Refused, Registry
from resnet_server.models.repository import Published, scan
from resnet_server.models.served_model import assemble
from resnet_server.processes.event_loop import settle_memory
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

CORES_A_FRONT_END = 8
"""One Python process takes in about what eight cores compute of resnet56 (docs/decisions/0005-front-end.md)."""


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
        self._front_ends: FrontEnds | None = None
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
        devices = pick_devices(settings.device, settings.devices)
        log.info("device: %s (%s)", ", ".join(map(str, devices)), devices[0].reason)
        found = scan(
            settings.repository,
            models=settings.models,
            all_versions=settings.versions == "all",
            allow_uncertified=settings.allow_uncertified,
        )
        metrics = self._open_metrics()
        loader = Loader(settings, devices, metrics)
        count = front_end_count(settings, available_cores(), loader.in_process)
        if count == 1:
            await self._serve_here(loader, metrics, found)
        else:
            await self._serve_apart(count, loader, metrics, found)
        settle_memory()

    def _open_metrics(self) -> Metrics:
        own, page = CollectorRegistry(), CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=own)
        page.register(MergedCollector(own.collect, self._front_end_families))
        try:
            httpd, thread = start_http_server(self.settings.metrics_port, self.settings.host, page)
        except OSError as error:
            raise StartError(f"metrics-port: {self.settings.metrics_port} cannot be opened: {error.strerror}") from None
        self.metrics_port = httpd.server_port

        def stop() -> None:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

        self._exit.push_async_callback(asyncio.to_thread, stop)
        return Metrics(own)

    def _front_end_families(self) -> list[Metric]:
        return self._front_ends.families() if self._front_ends is not None else []

    async def _serve_here(self, loader: Loader, metrics: Metrics, found: list[Published]) -> None:
        """Answer calls in this process."""
        listener = Listener(self.settings, self.registry, metrics)
        self._exit.callback(listener.abandon)
        self.grpc_port = listener.port
        for loaded in await self._load(loader, metrics, found):
            self.registry.ready.append(assemble(loaded.info, loaded.engines, self.settings, metrics))
        await listener.start()
        self._exit.push_async_callback(listener.close)

    async def _serve_apart(self, count: int, loader: Loader, metrics: Metrics, found: list[Published]) -> None:
        """Answer calls in `count` processes that share the port and the engines."""
        port = SharedPort(self.settings.host, self.settings.grpc_port)
        self._exit.callback(port.close)
        self.grpc_port = port.port
        models = await self._load(loader, metrics, found)
        engines = [engine for loaded in models for engine in loaded.engines if isinstance(engine, ProcessEngine)]
        settings = replace(self.settings, grpc_port=port.port)
        shared = tuple((loaded.info, tuple(engine.spec for engine in loaded.engines)) for loaded in models)
        received = Handoff(logging.getLogger().level, settings, shared, tuple(self.registry.refused))
        front_ends = FrontEnds(count, received, engines, metrics.front_end_restarts.inc)
        self._exit.push_async_callback(front_ends.close)
        metrics.front_end_memory.set_function(lambda: sum(resident_bytes(pid) for pid in front_ends.pids))
        await front_ends.open()
        self._front_ends = front_ends
        log.info("%d front ends share port %d and %d engines", count, port.port, len(engines))

    async def _load(self, loader: Loader, metrics: Metrics, found: list[Published]) -> list[Loaded]:
        models: list[Loaded] = []
        for published in found:
            try:
                if published.refusal:
                    raise ServingError(published.refusal)
                loaded = await loader.load(published)
            except StartError:
                raise
            except ServingError as error:
                log.error("%s version %s is refused: %s", published.name, published.version, error)
                self.registry.refused.append(Refused(published.name, published.version, str(error)))
                metrics.model_refused.labels(published.name, published.version).set(1)
                continue
            for model in loaded:
                self._exit.push_async_callback(model.close)
            models += loaded
        if not models:
            raise StartError(f"repository: every model in {self.settings.repository} is refused; see the log above")
        return models


def front_end_count(settings: Settings, cores: int, in_process: bool) -> int:
    """Front ends to run: as asked, or one for every CORES_A_FRONT_END cores; engines on threads have one. Raises StartError."""
    wanted = settings.frontends
    if in_process:
        if wanted is not None and wanted > 1:
            raise StartError(f"frontends: {wanted}, but engines on threads serve one; choose --engine-mode process")
        return 1
    return wanted or max(1, cores // CORES_A_FRONT_END)
