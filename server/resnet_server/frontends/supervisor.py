"""Starts front ends, hands them the engines, asks them for their metrics, and starts those again that die or hang."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from prometheus_client import Metric

from resnet_server.engines.process import messages
from resnet_server.engines.process.engine import Plug, ProcessEngine
from resnet_server.engines.process.shared_slots import allocate
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Handoff, Inbox, Outbox
from resnet_server.frontends.shared_tally import TallyMemory, allocate_tally
from resnet_server.metrics.merged_scrape import lasting, merge
from resnet_server.processes.child import Child
from resnet_server.processes.standing import Standing, standing_of
from resnet_server.settings import ENDING_SECONDS

log = logging.getLogger(__name__)

SCRAPE_SECONDS = 2.0
OPEN_SECONDS = 60.0
LEAST_START_SECONDS, START_TIMES = 15.0, 5.0
"""A restarted front end that does not listen after so many times what the start before took hangs."""

LOOK_SECONDS = 0.25
QUIET_SECONDS, HANG_SECONDS, LONGEST_SILENCE = 1.5, 1.0, 6.0
"""A front end says what it counted every second. From `QUIET_SECONDS` without a word on, it hangs once it could have spoken for
`HANG_SECONDS`: it waited, or it computed. Of one that only waits for a processor, which on a busy machine takes long, the bound is
`LONGEST_SILENCE`."""


class Silence:
    """How long a process has said nothing; `heard` starts it anew. Our own looks are counted, not time: we may have stood still."""

    def __init__(self) -> None:
        self._seconds = self._own = self._computed = 0.0

    def heard(self) -> None:
        """It has spoken."""
        self._seconds = self._own = 0.0

    def is_too_long(self, pid: int) -> bool:
        """To be asked every LOOK_SECONDS."""
        self._seconds += LOOK_SECONDS
        if self._seconds <= QUIET_SECONDS:
            return False
        self._count(standing_of(pid))
        return self._own >= HANG_SECONDS or self._seconds > LONGEST_SILENCE

    def _count(self, standing: Standing | None) -> None:
        if standing is None:
            return
        if self._seconds > QUIET_SECONDS + LOOK_SECONDS:
            used = standing.seconds - self._computed
            self._own += max(used, 0.0 if standing.runnable else LOOK_SECONDS)
        self._computed = standing.seconds


class _FrontEnd:
    """The server's half of one front end; `tally` is the descriptor of the counts that all have in common."""

    def __init__(self, received: Handoff, engines: Sequence[ProcessEngine], tally: int, on_restart: Callable[[], None]) -> None:
        self._handoff = received
        self._engines = engines
        self._tally = tally
        self._on_restart = on_restart
        self._plugs: list[Plug] = []
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[None] | None = None
        self._retired: list[Metric] = []
        self._draining, self._listens = False, False
        self._inbox = Inbox()
        self._outbox: Outbox | None = None
        self._silence = Silence()
        self.latest: list[Metric] = []
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self.child = Child("front end", ("resnet_server.frontends.process",), socket.SOCK_STREAM)
        self.child.started, self.child.read, self.child.lost, self.child.died = self._give, self._receive, self._lost, self._died

    @property
    def families(self) -> list[Metric]:
        """As of the latest answer, with what earlier processes of this front end counted."""
        return merge([*self._retired, *self.latest])

    async def scrape(self) -> None:
        """Bring `families` up to date; what does not answer in time stays as it was."""
        if self._outbox is None or not self.opened.done() or self._draining:
            return
        if self._asked is None:  # else somebody has asked already, and is not answered yet
            self._asked = self._loop.create_future()
            self._outbox.post((handoff.SCRAPE, None))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(self._asked), SCRAPE_SECONDS)

    def look(self) -> None:
        """End a process that has fallen silent; called every LOOK_SECONDS."""
        if self._outbox is None or not self._listens or self._draining:
            return
        if self._silence.is_too_long(self.child.pid):
            log.error("front end: process %d says nothing any more; ending it", self.child.pid)
            self._silence.heard()
            self.child.kill()

    async def close(self) -> None:
        """Let it answer what it has taken and say what it counted, and end it."""
        self._draining = True
        if self._outbox is not None:
            self._outbox.post((handoff.DRAIN, None))
        await self.child.close(self._handoff.settings.answer_seconds + ENDING_SECONDS / 3)
        self._lost()

    def _give(self, channel: socket.socket) -> None:
        """Hand over: first everything about the models, then a channel to each engine that is up. OSError: no memory for it."""
        self._inbox, self._outbox, self._silence, self._listens = Inbox(), Outbox(channel), Silence(), False
        for number, engine in enumerate(self._engines):
            self._plugs.append(Plug(allocate(engine.spec, messages.DEPTH), partial(self._connect, number)))
        TallyMemory(self._tally, self._handoff.settings.frontends or 1).forget(self._handoff.number)
        self._outbox.post(self._handoff, [self._tally, *(plug.memory for plug in self._plugs)])
        for engine, plug in zip(self._engines, self._plugs, strict=True):
            engine.process.plug_in(plug)

    def _connect(self, number: int, channel: socket.socket) -> None:
        with channel:
            if self._outbox is not None:
                self._outbox.post((handoff.CONNECT, (number, self._engines[number].process.starts)), [channel.fileno()])

    def _receive(self, channel: socket.socket) -> bool:
        for kind, value in self._inbox.read(channel):
            self._take(kind, value)
        return True

    def _take(self, kind: str, value: Any) -> None:
        if kind == handoff.OPEN:
            self._listens = self.child.proven = True
            self.child.patience = max(LEAST_START_SECONDS, START_TIMES * self.child.arrived())
            if not self.opened.done():
                self.opened.set_result(None)
        elif kind == handoff.FAILED and not self.opened.done():
            self.opened.set_exception(StartError(value))
        elif kind == handoff.HUNG:
            number, start = value
            if self._engines[number].process.starts == start:  # else it has been started again since
                self._engines[number].process.kill()
        elif kind == handoff.METRICS:
            self.latest = value
            self._silence.heard()
            self._answer_scrape()

    def _answer_scrape(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)
        self._asked = None

    def _died(self, status: int) -> bool:
        self._retired, self.latest = merge([*self._retired, *lasting(self.latest)]), []
        if not self.opened.done():
            self.opened.set_exception(StartError(f"a front end ended with status {status} before it listened"))
        if self._draining or self.opened.exception() is not None:
            return False
        self._on_restart()
        return True

    def _lost(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self._answer_scrape()
        for engine, plug in zip(self._engines, self._plugs, strict=False):
            engine.process.unplug(plug)
            os.close(plug.memory)
        self._plugs.clear()
        TallyMemory(self._tally, self._handoff.settings.frontends or 1).forget(self._handoff.number)


class FrontEnds:
    """All front ends of one server."""

    def __init__(self, count: int, received: Handoff, engines: Sequence[ProcessEngine], on_restart: Callable[[], None]) -> None:
        self._tally = allocate_tally(count, len(received.models))
        self._all = [_FrontEnd(replace(received, number=number), engines, self._tally, on_restart) for number in range(count)]
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None

    @property
    def pids(self) -> list[int]:
        """Of the processes that run."""
        return [front_end.child.pid for front_end in self._all if front_end.child.pid]

    async def open(self) -> None:
        """Start all and wait until they listen; raise StartError if one cannot."""
        try:
            for front_end in self._all:
                front_end.child.start()
            async with asyncio.timeout(OPEN_SECONDS):
                await asyncio.gather(*(front_end.opened for front_end in self._all))
        except OSError as error:  # TimeoutError is one
            slow = isinstance(error, TimeoutError)
            why = f"did not listen within {OPEN_SECONDS:g} s" if slow else f"cannot be started: {error.strerror}"
            raise StartError(f"frontends: a front end {why}") from None
        self._look()

    async def close(self) -> None:
        """Drain and end all."""
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.gather(*(front_end.close() for front_end in self._all))
        os.close(self._tally)

    def families(self) -> list[Metric]:
        """The metrics of all, up to date; call from another thread than the event loop's."""
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._scrape(), self._loop).result(2 * SCRAPE_SECONDS)
        return merge(family for front_end in self._all for family in front_end.families)

    async def _scrape(self) -> None:
        await asyncio.gather(*(front_end.scrape() for front_end in self._all))

    def _look(self) -> None:
        for front_end in self._all:
            front_end.look()
        self._looking = self._loop.call_later(LOOK_SECONDS, self._look)
