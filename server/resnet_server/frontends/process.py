"""The process of one front end: gRPC and batching in front of engines that another process of ours owns."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from resnet_server.endpoints.grpc.server import Listener
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Handoff, Outbox
from resnet_server.frontends.shared_models import AskingControl, SharedModels, assembled
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.registry import Registry
from resnet_server.processes.event_loop import run, settle_memory
from resnet_server.processes.logs import set_up_logging

PUSH_SECONDS = 1.0  # between two reports of what was counted: no more is lost when the process is killed


def main() -> None:
    """Argument: the descriptor of the socket to the server."""
    for name in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the server says when to drain
        signal.signal(name, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as owner:
        received: Handoff
        try:
            handoff.send(owner, (handoff.WAITING, None))
            received, memories = handoff.receive(owner)
        except (EOFError, OSError):  # the server has ended, or wants no spare any more
            return
        owner.settimeout(handoff.PATIENCE_SECONDS)
        set_up_logging(received.log_level)
        try:
            run(FrontEnd(owner, received, memories).serve())
        except StartError as error:
            handoff.send(owner, (handoff.FAILED, str(error)))


class FrontEnd:
    """Serves until told to drain, or until the server is gone."""

    def __init__(self, owner: socket.socket, received: Handoff, memories: list[int]) -> None:
        self._owner = owner
        self._received = received
        self._memories = memories
        self._metrics = CollectorRegistry()
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Open, answer what the server asks, and close."""
        channel = self._owner.dup()
        channel.setblocking(False)
        self._outbox = Outbox(channel)
        metrics, registry, settings = Metrics(self._metrics), Registry(), self._received.settings
        self._models = SharedModels(self._received.number, settings, metrics, registry, self._report_hung)
        assembled(self._received.models, self._models, self._memories)
        self._models.switch(self._received.served)
        self._control = AskingControl(settings, self._outbox)
        listener = Listener(settings, registry, metrics, self._control, shared_port=True, sharers=settings.frontends or 1)
        await listener.start()
        listener.open()
        settle_memory()
        self._outbox.post((handoff.OPEN, None))
        pushing = asyncio.get_running_loop().create_task(self._push())
        drain = await self._obey()
        if not drain:  # the server was killed: its engines end with it
            os._exit(1)
        await listener.close(settings.answer_seconds)
        for task in (pushing, *self._tasks):
            task.cancel()
        self._outbox.close()
        self._owner.settimeout(handoff.PATIENCE_SECONDS)
        handoff.send(self._owner, (handoff.METRICS, list(self._metrics.collect())))
        self._models.close()

    def _report_hung(self, link: int, start: int) -> None:
        self._outbox.post((handoff.HUNG, (link, start)))

    def _done(self, number: int) -> None:
        self._outbox.post((handoff.DONE, number))

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(PUSH_SECONDS)
            self._report()

    def _report(self) -> None:
        if not len(self._outbox):  # one that is not read yet says enough
            self._outbox.post((handoff.METRICS, list(self._metrics.collect())))

    async def _obey(self) -> bool:
        """True when told to drain, False when the server is gone."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[bool] = loop.create_future()

        def read() -> None:
            try:
                (kind, value), descriptors = handoff.receive(self._owner)
                self._answer(kind, value, descriptors, ended)
            except BlockingIOError:
                return
            except (EOFError, OSError):
                loop.remove_reader(self._owner.fileno())
                if not ended.done():
                    ended.set_result(False)

        loop.add_reader(self._owner.fileno(), read)
        return await ended

    def _answer(self, kind: str, value: Any, descriptors: list[int], ended: "asyncio.Future[bool]") -> None:
        if kind == handoff.CONNECT:
            link, start = value
            self._models.connect(link, start, socket.socket(fileno=descriptors[0]))
        elif kind == handoff.PREPARE:
            number, shared = value
            self._models.prepare(shared, iter(descriptors), partial(self._done, number))
        elif kind == handoff.SWITCH:
            number, served = value
            self._models.switch(served)
            self._done(number)
        elif kind == handoff.RETIRE:
            self._begin(self._retire(*value))
        elif kind == handoff.TOLD:
            self._control.told(*value)
        elif kind == handoff.SCRAPE:
            self._report()
        elif kind == handoff.DRAIN and not ended.done():
            ended.set_result(True)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retire(self, number: int, model: int, seconds: float) -> None:
        await self._models.retire(model, seconds)
        self._done(number)
