"""The models of one front end: warm engines that the server owns, and which of them callers find now."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Any

from resnet_server.engines.process.channel import EngineChannel
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Outbox, Served, SharedModel
from resnet_server.frontends.shared_tally import TallyMemory
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.assembly import assemble
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.models.versions import VersionPolicy
from resnet_server.settings import Settings

Hung = Callable[[int, int], None]


class SharedModels:
    """Models and links by the server's numbers; `hung` is told the number and the start of an engine in which a batch hangs."""

    def __init__(self, number: int, settings: Settings, metrics: Metrics, registry: Registry, hung: Hung) -> None:
        self._number = number
        self._settings, self._metrics, self._registry = settings, metrics, registry
        self._hung = hung
        self._models: dict[int, ServedModel] = {}
        self._links: dict[int, EngineChannel] = {}
        self._links_of: dict[int, tuple[int, ...]] = {}
        self._starts: dict[int, int] = {}
        self._awaited: dict[int, Callable[[], None]] = {}

    def prepare(self, shared: SharedModel, memories: Iterator[int], ready: Callable[[], None] = lambda: None) -> None:
        """Put a batcher before its engines; `ready` is called once all of them are connected."""
        descriptor = next(memories)
        tally = TallyMemory(descriptor, self._settings.frontends or 1)
        os.close(descriptor)  # mapped
        links = []
        for number, spec in shared.engines:
            link = EngineChannel(spec, next(memories))
            link.on_hang = partial(self._report_hung, number)
            self._links[number], self._starts[number] = link, 0
            links.append(link)
        self._links_of[shared.number] = tuple(number for number, _ in shared.engines)
        self._metrics.forget(*shared.info.key)  # of another version of that number
        self._metrics.in_service(*shared.info.key[:2])
        self._models[shared.number] = assemble(shared.info, links, self._settings, self._metrics, tally.of(self._number))
        self._awaited[shared.number] = ready

    def connect(self, number: int, start: int, channel: socket.socket) -> None:
        """An engine is up, for the `start`th time."""
        if number not in self._links:  # retired meanwhile
            channel.close()
            return
        self._starts[number] = start
        self._links[number].connect(channel)
        for model, ready in list(self._awaited.items()):
            if all(self._links[link].ready for link in self._links_of[model]):
                del self._awaited[model]
                ready()

    def switch(self, served: Served) -> None:
        """Have callers find these and no others."""
        models, before = [self._models[number] for number in served.models], list(self._registry.ready)
        self._registry.refused, self._registry.changing = list(served.refused), dict(served.changing)
        added, removed = [one for one in models if one not in before], [one for one in before if one not in models]
        self._registry.switch(added, removed, served.own)

    async def retire(self, number: int, seconds: float) -> None:
        """Answer what a model has taken in, and let its engines go."""
        model = self._models.pop(number)
        self._awaited.pop(number, None)
        await model.retire(seconds)
        for link in self._links_of.pop(number):
            self._links.pop(link).close_channel()
            del self._starts[link]
        if model.info.key not in {other.info.key for other in self._models.values()}:
            self._metrics.forget(*model.info.key)
        if model.info.key[:2] not in {other.info.key[:2] for other in self._models.values()}:
            self._metrics.out_of_service(*model.info.key[:2])
        self._registry.let_go()

    def close(self) -> None:
        """Close the channels to all engines."""
        for link in self._links.values():
            link.close_channel()

    def _report_hung(self, number: int) -> None:
        self._hung(number, self._starts.get(number, 0))


class AskingControl:
    """A caller's loads and unloads, which the server does for all front ends at once."""

    def __init__(self, settings: Settings, outbox: Outbox) -> None:
        self.is_enabled = settings.model_control == "explicit"
        self._outbox = outbox
        self._asked: dict[int, asyncio.Future[None]] = {}
        self._numbers = count()

    async def load(self, name: str, versions: VersionPolicy | None = None) -> None:
        """See `ModelControl.load`."""
        await self._ask("load", name, versions)

    async def unload(self, name: str) -> None:
        """See `ModelControl.unload`."""
        await self._ask("unload", name)

    def told(self, number: int, error: Exception | None) -> None:
        """How it ended."""
        asked = self._asked.pop(number, None)
        if asked is None or asked.done():  # its caller has gone
            return
        if error is None:
            asked.set_result(None)
        else:
            asked.set_exception(error)

    async def _ask(self, verb: str, *arguments: Any) -> None:
        number = next(self._numbers)
        asked = self._asked[number] = asyncio.get_running_loop().create_future()
        self._outbox.post((handoff.ASK, (number, verb, arguments)))
        try:
            await asked
        finally:
            self._asked.pop(number, None)


def assembled(shared: Sequence[SharedModel], models: SharedModels, memories: Sequence[int]) -> None:
    """Prepare all that came together, with their memories in order."""
    each = iter(memories)
    for model in shared:
        models.prepare(model, each)
