"""The composition root: everything is built and wired here, and taken down in reverse."""

import asyncio
import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Metric,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from resnet_server.endpoints.address import bare, is_unix, written
from resnet_server.endpoints.grpc.server import Listener
from resnet_server.endpoints.metrics_page import SecuredMetrics
from resnet_server.endpoints.security.access import access_of
from resnet_server.endpoints.security.certificates import certificates_of
from resnet_server.engines.api import RUNTIME_NAMES
from resnet_server.engines.device import available_cores, pick_devices
from resnet_server.engines.runtimes import pick_runtimes, runtime_version
from resnet_server.errors import StartError
from resnet_server.frontends.port import SharedPort
from resnet_server.frontends.supervisor import FrontEnds
from resnet_server.metrics.merged_scrape import MergedCollector
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.description import resident_bytes
from resnet_server.models.group_file import with_groups
from resnet_server.models.group_loader import GroupLoader, GroupSource, alone, check_groups, names_to_scan, sources
from resnet_server.models.loaded import Loaded
from resnet_server.models.loader import Loader
from resnet_server.models.loads import load_all, load_groups
from resnet_server.models.model_control import ModelControl
from resnet_server.models.model_settings import wanted_of
from resnet_server.models.registry import Refused, Registry
from resnet_server.models.remote import open_repository
from resnet_server.models.repository import Published, Repository, Trust, scan
from resnet_server.processes.event_loop import settle_memory
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

PORTS = ("grpc_port", "http_port", "health_port", "health_http_port")
"""What all front ends listen on, by its name in the settings and in App."""

CORES_A_FRONT_END = 8
"""One Python process takes in about what eight cores compute of resnet56 (docs/decisions/0005-front-end.md)."""


async def serve(settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT, whenever that comes, then drain. `announce` gets one line once every model is ready.

    Raises StartError where the server cannot start: no repository, a port in use, a device that is not there.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):  # first of all: process 1 of a container has no other way to hear them
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    app = App(settings)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await _first(asyncio.ensure_future(app.start()), stopping)
        if stop.is_set():
            log.info("stopping before the models are loaded")
            return
        announce(f"resnet-server: listening on {app.addresses}")
        await stopping
        log.info("stopping: everything ends within %g s", settings.drain_seconds)
    finally:
        stopping.cancel()
        await app.close()


async def _first(starting: "asyncio.Future[None]", stopping: "asyncio.Future[Any]") -> None:
    """Wait for the start or the signal to stop, which gives the start up. Raises what the start raises."""
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
    if not starting.cancelled():
        starting.result()


class App:
    """One server; `start` builds it in order, and `close` takes down what is built, in reverse order."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.registry = Registry()
        self.grpc_port = self.http_port = 0
        self.metrics_port = self.health_port = self.health_http_port = 0
        self._front_ends: FrontEnds | None = None
        self._loaded: list[Loaded] = []
        self._groups: list[GroupSource] = []
        self._exit = contextlib.AsyncExitStack()

    @property
    def grpc_address(self) -> str:
        """Where calls are answered, as people write it."""
        return written(self.settings.host, self.grpc_port)

    @property
    def addresses(self) -> str:
        """Of everything that listens, in one line."""
        settings = self.settings
        places = {"metrics": (settings.metrics_at, self.metrics_port)} if settings.metrics_port is not None else {}
        for name in PORTS[1:]:
            if getattr(settings, name) is not None:
                places[name.removesuffix("_port").replace("_", "-")] = (settings.host, getattr(self, name))
        return f"grpc={self.grpc_address} " + " ".join(f"{name}={written(bare(host), port)}" for name, (host, port) in places.items())

    async def close(self) -> None:
        """Stop what has been started."""
        await self._exit.aclose()

    async def start(self) -> None:
        """Load the models and open the door to them. May be cancelled."""
        repository = open_repository(self.settings)
        self._exit.callback(repository.give_up)
        await asyncio.to_thread(repository.refresh)
        settings = self.settings = with_groups(replace(self.settings, repository=repository.root))
        devices = pick_devices(settings.device, settings.devices)
        log.info("device: %s (%s)", ", ".join(map(str, devices)), devices[0].reason)
        runtimes = pick_runtimes(settings.runtime, devices[0], settings.engine_mode)
        log.info("runtimes: %s", ", ".join(f"{RUNTIME_NAMES[runtime]} {runtime_version(runtime)}" for runtime in runtimes))
        check_groups(settings)
        found = await asyncio.to_thread(
            scan,
            repository,
            models=names_to_scan(settings),
            wanted=wanted_of(settings),
            trust=Trust(settings.allow_uncertified, settings.require_policy, settings.require_signature),
            may_be_empty=settings.model_control != "none",
        )
        await asyncio.to_thread(repository.prune, {published.folder for published in found})
        self._groups = sources(settings, found)
        found = alone(settings, found)
        metrics = self._open_metrics()
        loader = Loader(settings, devices, metrics)
        self._exit.callback(loader.give_up)
        self._exit.push_async_callback(self._close_engines)  # after the listener, which comes later
        count = front_end_count(settings, available_cores(), loader.in_process)
        if count == 1:
            await self._serve_here(loader, metrics, found, repository)
        else:
            await self._serve_apart(count, loader, metrics, found, repository)
        settle_memory()

    def _open_metrics(self) -> Metrics:
        own = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=own)
        if self.settings.metrics_port is not None:
            self._open_page(MergedCollector(own.collect, self._front_end_families), self.settings.metrics_port)
        return Metrics(own)

    def _open_page(self, collector: MergedCollector, port: int) -> None:
        page = CollectorRegistry()
        page.register(collector)
        try:
            httpd, thread = self._start_page(page, bare(self.settings.metrics_at), port)
        except OSError as error:
            raise StartError(f"metrics-port: {port} cannot be opened: {error.strerror}") from None
        self.metrics_port = httpd.server_port

        def stop() -> None:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

        self._exit.push_async_callback(asyncio.to_thread, stop)

    def _start_page(self, page: CollectorRegistry, host: str, port: int) -> tuple[WSGIServer, threading.Thread]:
        if not self.settings.secure_metrics:
            return start_http_server(port, host, page)
        httpd = SecuredMetrics(self.settings, host, port, page)
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        return httpd, thread

    def _front_end_families(self) -> list[Metric]:
        return self._front_ends.families() if self._front_ends is not None else []

    async def _serve_here(self, loader: Loader, metrics: Metrics, found: list[Published], repository: Repository) -> None:
        """Answer calls in this process."""
        control = ModelControl(self.settings, repository, loader, self.registry, metrics)
        self._exit.push_async_callback(control.close)  # after the listener, which comes next
        listener = Listener(self.settings, self.registry, metrics, control)
        self.grpc_port, self.http_port = listener.port, listener.http_port
        self.health_port, self.health_http_port = listener.probes.port, listener.probes.http_port
        await listener.start()
        self._exit.push_async_callback(listener.close, self.settings.answer_seconds)
        await control.start(await self._load(loader, metrics, found), found)
        self._loaded.clear()  # they are the control's now
        listener.open()
        self._exit.push_async_callback(control.stop)

    async def _serve_apart(self, count: int, loader: Loader, metrics: Metrics, found: list[Published], repository: Repository) -> None:
        """Answer calls in `count` processes that share the port and the engines."""
        certificates_of(self.settings), access_of(self.settings)  # raise for wrong files, before anything is loaded
        settings = replace(self.settings, frontends=count, max_held_bytes=self.settings.max_held_bytes // count)
        for name in PORTS:
            wanted = getattr(settings, name)
            if wanted is not None:
                port = self._share(name.replace("_", "-"), wanted)
                settings = replace(settings, **{name: port})  # type: ignore[arg-type]  # these are ports
                setattr(self, name, port)
        front_ends = FrontEnds(settings, self.registry, metrics.front_end_restarts.inc)
        control = ModelControl(settings, repository, loader, self.registry, metrics, front_ends)
        front_ends.obey(control)
        self._exit.push_async_callback(control.close)
        loaded = await self._load(loader, metrics, found)
        await control.start(loaded, found)
        engines = sum(len(one.engines) for _, parts in loaded for one in parts)
        self._loaded.clear()  # they are the control's now
        self._exit.push_async_callback(front_ends.close)
        self._exit.push_async_callback(control.stop)
        metrics.front_end_memory.set_function(lambda: sum(resident_bytes(pid) for pid in front_ends.pids))
        await front_ends.open()
        self._front_ends = front_ends
        log.info("%d front ends share port %d and %d engines", count, self.grpc_port, engines)

    def _share(self, name: str, port: int) -> int:
        """Hold a port for front ends; return its number."""
        shared = SharedPort(self.settings.host, port, name)
        self._exit.callback(shared.close)
        return shared.port

    async def _load(self, loader: Loader, metrics: Metrics, found: list[Published]) -> list[tuple[Published, list[Loaded]]]:
        loaded, refuse = [], partial(self._refuse, metrics)
        for coming in (load_all(found, loader, refuse), load_groups(self._groups, GroupLoader(loader, self.settings), refuse)):
            async for published, parts in coming:
                self._loaded += parts
                loaded.append((published, parts))
        if not loaded and self.settings.model_control == "none":
            raise StartError(f"repository: every model in {self.settings.repository} is refused; see the log above")
        return loaded

    def _refuse(self, metrics: Metrics, published: Published, reason: str) -> None:
        log.error("%s version %s is refused: %s", published.name, published.version, reason)
        self.registry.refused.append(Refused(published.name, published.version, reason))
        metrics.model_refused.labels(published.name, published.version).set(1)

    async def _close_engines(self) -> None:
        await asyncio.gather(*(model.close() for model in self._loaded))


def front_end_count(settings: Settings, cores: int, in_process: bool) -> int:
    """Front ends to run: as asked, or one for every CORES_A_FRONT_END cores; engines on threads have one. Raises StartError."""
    wanted = settings.frontends
    if settings.allow_shared_memory:
        if wanted is not None and wanted > 1:
            raise StartError(f"frontends: {wanted}, but shared memory is registered with one; leave --allow-shared-memory")
        return 1
    if is_unix(settings.host):
        if wanted is not None and wanted > 1:
            raise StartError(f"frontends: {wanted}, but a Unix socket is served by one")
        return 1
    if in_process:
        if wanted is not None and wanted > 1:
            raise StartError(f"frontends: {wanted}, but engines on threads serve one; choose --engine-mode process")
        return 1
    return wanted or max(1, cores // CORES_A_FRONT_END)
