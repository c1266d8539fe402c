"""Starts front ends, hands them the engines, asks them for their metrics, and starts those again that die."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import Metric

from resnet_server.engines.process import messages
from resnet_server.engines.process.engine import Plug, ProcessEngine
from resnet_server.engines.process.shared_slots import allocate
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Handoff
from resnet_server.metrics.merged_scrape import lasting, merge
from resnet_server.processes.child import Child
from resnet_server.settings import ENDING_SECONDS

log = logging.getLogger(__name__)

SCRAPE_SECONDS = 2.0
OPEN_SECONDS = 60.0


class _FrontEnd:
    """The server's half of one front end."""

    def __init__(self, received: Handoff, engines: Sequence[ProcessEngine], on_restart: Callable[[], None]) -> None:
        self._handoff = received
        self._engines = engines
        self._on_restart = on_restart
        self._plugs: list[Plug] = []
        self._loop = asyncio.get_running_loop()
        self._asked: list[asyncio.Future[None]] = []
        self._retired: list[Metric] = []
        self._draining = False
        self.latest: list[Metric] = []
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.child = Child("front end", ("resnet_server.frontends.process",), socket.SOCK_STREAM)
        self.child.started, self.child.read, self.child.died = self._give, self._receive, self._died

    @property
    def families(self) -> list[Metric]:
        """As of the latest answer, with what earlier processes of this front end counted."""
        return merge([*self._retired, *self.latest])

    async def scrape(self) -> None:
        """Bring `families` up to date; what does not answer in time stays as it was."""
        if self.child.socket is None or not self.opened.done() or self._draining:
            return
        asked = self._loop.create_future()
        self._asked.append(asked)
        with contextlib.suppress(OSError, TimeoutError):
            handoff.send(self.child.socket, (handoff.SCRAPE, None))
            await asyncio.wait_for(asked, SCRAPE_SECONDS)

    async def close(self) -> None:
        """Let it answer what it has taken, and end it."""
        await self.scrape()
        self._draining = True
        if self.child.socket is not None:
            with contextlib.suppress(OSError):
                handoff.send(self.child.socket, (handoff.DRAIN, None))
        await self.child.close(self._handoff.settings.answer_seconds + ENDING_SECONDS / 3)
        self._unplug()

    def _give(self, channel: socket.socket) -> None:
        """Hand over: first everything about the models, then a channel to each engine that is up."""
        channel.settimeout(handoff.PATIENCE_SECONDS)
        memories = [allocate(engine.spec, messages.DEPTH) for engine in self._engines]
        with contextlib.suppress(OSError):  # one that died at once is noticed by its socket's end
            handoff.send(channel, self._handoff, memories)
        for number, (engine, memory) in enumerate(zip(self._engines, memories, strict=True)):
            plug = Plug(memory, partial(self._connect, number))
            self._plugs.append(plug)
            engine.process.plug_in(plug)

    def _connect(self, number: int, channel: socket.socket) -> None:
        with channel, contextlib.suppress(OSError):
            if self.child.socket is not None:
                handoff.send(self.child.socket, (handoff.CONNECT, number), [channel.fileno()])

    def _receive(self, channel: socket.socket) -> bool:
        (kind, value), _ = handoff.receive(channel)
        if kind == handoff.OPEN and not self.opened.done():
            self.opened.set_result(None)
        elif kind == handoff.FAILED and not self.opened.done():
            self.opened.set_exception(StartError(value))
        elif kind == handoff.METRICS:
            self.latest = value
            for asked in self._asked:
                if not asked.done():
                    asked.set_result(None)
            self._asked.clear()
        return True

    def _died(self, status: int | None) -> bool:
        self._unplug()
        self._retired, self.latest = merge([*self._retired, *lasting(self.latest)]), []
        if not self.opened.done():
            self.opened.set_exception(StartError(f"a front end ended with status {status} before it listened"))
        if self._draining or self.opened.exception() is not None:
            return False
        self._on_restart()
        return True

    def _unplug(self) -> None:
        for engine, plug in zip(self._engines, self._plugs, strict=False):
            engine.process.unplug(plug)
            os.close(plug.memory)
        self._plugs.clear()


class FrontEnds:
    """All front ends of one server."""

    def __init__(self, count: int, received: Handoff, engines: Sequence[ProcessEngine], on_restart: Callable[[], None]) -> None:
        self._all = [_FrontEnd(received, engines, on_restart) for _ in range(count)]
        self._loop = asyncio.get_running_loop()

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [front_end.child.pid for front_end in self._all if front_end.child.pid]

    async def open(self) -> None:
        """Start all and wait until they listen; raise StartError if one cannot."""
        for front_end in self._all:
            front_end.child.start()
        async with asyncio.timeout(OPEN_SECONDS):
            await asyncio.gather(*(front_end.opened for front_end in self._all))

    async def close(self) -> None:
        """Drain and end all."""
        await asyncio.gather(*(front_end.close() for front_end in self._all))

    def families(self) -> list[Metric]:
        """The metrics of all, up to date; call from another thread than the event loop's."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._scrape(), self._loop).result(2 * SCRAPE_SECONDS)
        return merge(family for front_end in self._all for family in front_end.families)

    async def _scrape(self) -> None:
        await asyncio.gather(*(front_end.scrape() for front_end in self._all))
