"""All front ends of a server: starts them, tells them what is served, asks them for their metrics, and looks whether they hang."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any

from prometheus_client import Metric

from resnet_server.engines.process.engine import ProcessEngine
from resnet_server.errors import ServingError, StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.front_end import LOOK_SECONDS, SCRAPE_SECONDS, Entry, FrontEnd
from resnet_server.frontends.handoff import Handoff, Served, SharedModel
from resnet_server.frontends.shared_tally import allocate_tally
from resnet_server.frontends.spare import Spare
from resnet_server.metrics.merged_scrape import merge
from resnet_server.models.loaded import Loaded
from resnet_server.models.model_settings import ModelSettings
from resnet_server.models.registry import Registry
from resnet_server.models.stage import Control
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

OPEN_SECONDS = 60.0


class FrontEnds:
    """All front ends of one server: a `Stage` before callers of any of them. `refused` and `changing` are of the server's registry."""

    def __init__(self, settings: Settings, registry: Registry, on_restart: Callable[[], None]) -> None:
        self._settings = settings
        self._registry = registry
        self._entries: dict[int, Entry] = {}
        self._numbers: dict[Loaded, int] = {}
        self._next = count()
        self._links = count()
        self._serving: tuple[int, ...] = ()
        self._own: Mapping[str, ModelSettings] = {}
        self._control: Control | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._spare = Spare()
        fronts = range(settings.frontends or 1)
        self._all = [FrontEnd(number, settings, self._handoff, self._entries, self._spare, on_restart) for number in fronts]
        for front_end in self._all:
            front_end.asked = self._asked
        self._loop = asyncio.get_running_loop()
        self._looking: asyncio.TimerHandle | None = None

    def obey(self, control: Control) -> None:
        """Have callers' loads and unloads done by this."""
        self._control = control

    async def prepare(self, loaded: Loaded) -> None:
        """See `Stage.prepare`; plans are not looked after, since front ends do not say how long batches take."""
        number = next(self._next)
        engines = tuple(engine for engine in loaded.engines if isinstance(engine, ProcessEngine))
        shared = SharedModel(number, loaded.info, tuple((next(self._links), engine.spec) for engine in engines))
        entry = Entry(shared, engines, allocate_tally(len(self._all)))
        self._entries[number], self._numbers[loaded] = entry, number
        await self._order(handoff.PREPARE, shared, memories=[entry.tally], entry=entry)

    async def switch(self, serving: Sequence[Loaded], own: Mapping[str, ModelSettings]) -> None:
        """See `Stage.switch`."""
        self._serving, self._own = tuple(self._numbers[loaded] for loaded in serving), own
        await self._order(handoff.SWITCH, self._served())

    async def retire(self, loaded: Loaded, seconds: float) -> None:
        """See `Stage.retire`."""
        number = self._numbers.pop(loaded)
        entry = self._entries[number]
        try:
            await self._order(handoff.RETIRE, number, seconds)
        finally:
            del self._entries[number]
            for front_end in self._all:
                front_end.release(entry)
            os.close(entry.tally)

    def tell(self) -> None:
        """See `Stage.tell`."""
        self._order(handoff.SWITCH, self._served())

    def _served(self) -> Served:
        return Served(self._serving, self._own, tuple(self._registry.refused), dict(self._registry.changing))

    def _handoff(self, number: int) -> Handoff:
        models = tuple(entry.shared for entry in self._entries.values())
        return Handoff(number, logging.getLogger().level, self._settings, models, self._served())

    def _order(self, kind: str, *value: Any, memories: Sequence[int] = (), entry: Entry | None = None) -> "asyncio.Future[list[None]]":
        """At once, so that all front ends are told everything in the order in which it happened; over when all have done it."""
        return asyncio.gather(*(front_end.order(kind, *value, memories=memories, entry=entry) for front_end in self._all))

    def _asked(self, number: int, verb: str, arguments: tuple[Any, ...], tell: Callable[[int, Exception | None], None]) -> None:
        self._begin(self._do(number, verb, arguments, tell))

    async def _do(self, number: int, verb: str, arguments: tuple[Any, ...], tell: Callable[[int, Exception | None], None]) -> None:
        assert self._control is not None  # noqa: S101  # set before anybody can ask
        try:
            await getattr(self._control, verb)(*arguments)
        except ServingError as error:
            tell(number, error)
        except Exception as error:
            log.exception("%s failed", verb)
            tell(number, RuntimeError(f"{type(error).__name__}: {error}"))
        else:
            tell(number, None)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def pids(self) -> list[int]:
        """Of the processes that run, the one that waits included."""
        found = (*(front_end.child.pid for front_end in self._all), self._spare.pid)
        return [pid for pid in found if pid]

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
        self._spare.start()

    async def close(self) -> None:
        """Drain and end all."""
        if self._looking is not None:
            self._looking.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(self._spare.close(), *(front_end.close() for front_end in self._all))
        for entry in self._entries.values():
            os.close(entry.tally)
        self._entries.clear()

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
