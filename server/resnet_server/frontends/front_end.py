"""The server's half of one front end: hands its process the engines, hears what it counted, and starts it again when it dies or hangs."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any

from prometheus_client import Metric

from resnet_server.engines.process import messages
from resnet_server.engines.process.engine import Plug, ProcessEngine
from resnet_server.engines.process.shared_slots import allocate
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Handoff, Inbox, Outbox, SharedModel
from resnet_server.frontends.shared_tally import TallyMemory
from resnet_server.frontends.spare import MODULE, Spare, patience_after
from resnet_server.metrics.merged_scrape import lasting, merge
from resnet_server.processes.child import Child
from resnet_server.processes.standing import Standing, standing_of
from resnet_server.settings import ENDING_SECONDS, Settings

log = logging.getLogger(__name__)
Ask = Callable[[int, str, tuple[Any, ...], Callable[[int, Exception | None], None]], None]

SCRAPE_SECONDS = 2.0
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


@dataclass(frozen=True, eq=False)
class Entry:
    """A model in all front ends: what they are told of it, its engines in that order, and the counts that they have in common."""

    shared: SharedModel
    engines: tuple[ProcessEngine, ...]
    tally: int


class FrontEnd:
    """`give` says what its process gets when it starts, `entries` are the models in it.

    Where its process ends, `spare` has another.
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        give: Callable[[int], Handoff],
        entries: dict[int, Entry],
        spare: Spare,
        on_restart: Callable[[], None],
    ) -> None:
        self._number = number
        self._settings = settings
        self._handoff = give
        self._entries = entries
        self._spare = spare
        self._on_restart = on_restart
        self._plugs: dict[int, tuple[ProcessEngine, Plug]] = {}
        self._numbers = count()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self.asked: Ask | None = None
        self._loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[None] | None = None
        self._retired: list[Metric] = []
        self._draining, self._listens = False, False
        self._inbox = Inbox()
        self._outbox: Outbox | None = None
        self._silence = Silence()
        self.latest: list[Metric] = []
        self.opened: asyncio.Future[None] = self._loop.create_future()
        self._watch(Child("front end", (MODULE,), socket.SOCK_STREAM))

    def _watch(self, child: Child) -> None:
        self.child = child
        child.started, child.read, child.lost, child.died = self._give, self._receive, self._ended, self._died

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
        await self.child.close(self._settings.answer_seconds + ENDING_SECONDS / 3)
        self._lost()

    def order(self, kind: str, *value: Any, memories: Sequence[int] = (), entry: Entry | None = None) -> "asyncio.Future[None]":
        """Have its process do something; over when it has, or has died: another one begins with what is right then.

        `entry`: a model that is new to it, whose engines get channels.
        """
        done = self._loop.create_future()
        if self._outbox is None:
            done.set_result(None)
            return done
        number = next(self._numbers)
        self._waiting[number] = done
        plugs = self._plug(entry) if entry is not None else []
        self._outbox.post((kind, (number, *value)), [*memories, *(plug.memory for _, plug in plugs)])
        for engine, plug in plugs:
            engine.process.plug_in(plug)
        return done

    def release(self, entry: Entry) -> None:
        """Give a model's engines no more channels."""
        for number, _ in entry.shared.engines:
            if (plugged := self._plugs.pop(number, None)) is not None:
                _unplug(*plugged)

    def _plug(self, entry: Entry) -> list[tuple[ProcessEngine, Plug]]:
        found = []
        for (number, _), engine in zip(entry.shared.engines, entry.engines, strict=True):
            plug = Plug(allocate(engine.spec, messages.DEPTH), partial(self._connect, number, engine))
            self._plugs[number] = engine, plug
            found.append((engine, plug))
        return found

    def _give(self, channel: socket.socket) -> None:
        """Hand over: first everything about the models, then a channel to each engine that is up. OSError: no memory for it."""
        self._inbox, self._outbox, self._silence, self._listens = Inbox(), Outbox(channel), Silence(), False
        self._forget()
        memories: list[int] = []
        plugs = []
        for entry in self._entries.values():
            plugged = self._plug(entry)
            memories += [entry.tally, *(plug.memory for _, plug in plugged)]
            plugs += plugged
        self._outbox.post(self._handoff(self._number), memories)
        for engine, plug in plugs:
            engine.process.plug_in(plug)

    def _connect(self, number: int, engine: ProcessEngine, channel: socket.socket) -> None:
        with channel:
            if self._outbox is not None:
                self._outbox.post((handoff.CONNECT, (number, engine.process.starts)), [channel.fileno()])

    def _forget(self) -> None:
        for entry in self._entries.values():
            TallyMemory(entry.tally, self._settings.frontends or 1).forget(self._number)

    def _receive(self, channel: socket.socket) -> bool:
        for kind, value in self._inbox.read(channel):
            self._take(kind, value)
        return True

    def _take(self, kind: str, value: Any) -> None:
        if kind == handoff.OPEN:
            self._listens = True
            self.child.proven()
            self.child.patience = patience_after(self.child.arrived())
            if not self.opened.done():
                self.opened.set_result(None)
        elif kind == handoff.FAILED and not self.opened.done():
            self.opened.set_exception(StartError(value))
        elif kind == handoff.HUNG:
            number, start = value
            if number in self._plugs and self._plugs[number][0].process.starts == start:  # else it has been started again since
                self._plugs[number][0].process.kill()
        elif kind == handoff.DONE:
            _settle(self._waiting.pop(value, None))
        elif kind == handoff.ASK and self.asked is not None:
            number, verb, arguments = value
            self.asked(number, verb, arguments, self._tell(self._outbox))
        elif kind == handoff.METRICS:
            self.latest = value
            self._silence.heard()
            self._answer_scrape()

    def _answer_scrape(self) -> None:
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)
        self._asked = None

    def _ended(self) -> None:
        """Its process is gone: let another take over where one waits; else it is started again once it is buried."""
        self._lost()
        if self._draining or not self.opened.done() or self.opened.exception() is not None:
            return
        successor = self._spare.instead_of(self.child)
        if successor is None:
            return
        self._succeeded()
        self._watch(successor)
        log.error("front end: its process has ended; process %d, which waited, takes over", successor.pid)
        successor.expected()
        if successor.socket is not None:
            try:
                self._give(successor.socket)
            except OSError as error:
                successor.not_served(error)

    def _died(self, status: int) -> bool:
        if not self.opened.done():
            self.opened.set_exception(StartError(f"a front end ended with status {status} before it listened"))
        if self._draining or self.opened.exception() is not None:
            return False
        self._succeeded()
        return True

    def _succeeded(self) -> None:
        """Another process goes on: what this one counted stays."""
        self._retired, self.latest = merge([*self._retired, *lasting(self.latest)]), []
        self._on_restart()

    def _lost(self) -> None:
        if self._outbox is not None:
            self._outbox.close()
            self._outbox = None
        self._answer_scrape()
        while self._waiting:
            _settle(self._waiting.popitem()[1])
        for engine, plug in self._plugs.values():
            _unplug(engine, plug)
        self._plugs.clear()
        self._forget()

    def _tell(self, outbox: Outbox | None) -> Callable[[int, Exception | None], None]:
        """How its process, and no later one, is told how an `ASK` ended."""

        def tell(number: int, error: Exception | None) -> None:
            if outbox is not None and outbox is self._outbox:
                outbox.post((handoff.TOLD, (number, error)))

        return tell


def _unplug(engine: ProcessEngine, plug: Plug) -> None:
    with contextlib.suppress(ValueError):  # it had not been plugged in yet
        engine.process.unplug(plug)
    os.close(plug.memory)


def _settle(waiting: "asyncio.Future[None] | None") -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
