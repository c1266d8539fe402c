"""The process of one front end: gRPC and batching in front of engines that another process of ours owns."""

import asyncio
import os
import signal
import socket
import sys
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry

from resnet_server.endpoints.grpc.server import Listener
from resnet_server.engines.process.channel import EngineChannel
from resnet_server.errors import StartError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Handoff, Outbox
from resnet_server.frontends.shared_tally import TallyMemory
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.assembly import assemble
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
        received, memories = handoff.receive(owner)
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
        self._links: list[EngineChannel] = []
        self._starts: list[int] = []
        self._metrics = CollectorRegistry()

    async def serve(self) -> None:
        """Open, answer what the server asks, and close."""
        channel = self._owner.dup()
        channel.setblocking(False)
        self._outbox = Outbox(channel)
        metrics, registry, settings = Metrics(self._metrics), Registry(), self._received.settings
        self._assemble_all(metrics, registry)
        registry.refused += self._received.refused
        listener = Listener(settings, registry, metrics, shared_port=True, sharers=settings.frontends or 1)
        await listener.start()
        listener.open()
        settle_memory()
        self._outbox.post((handoff.OPEN, None))
        pushing = asyncio.get_running_loop().create_task(self._push())
        drain = await self._obey()
        if not drain:  # the server was killed: its engines end with it
            os._exit(1)
        await listener.close(settings.answer_seconds)
        pushing.cancel()
        self._outbox.close()
        self._owner.settimeout(handoff.PATIENCE_SECONDS)
        handoff.send(self._owner, (handoff.METRICS, list(self._metrics.collect())))
        for link in self._links:
            link.close_channel()

    def _assemble_all(self, metrics: Metrics, registry: Registry) -> None:
        settings, number = self._received.settings, self._received.number
        memories = iter(self._memories)
        fd = next(memories)
        tally = TallyMemory(fd, settings.frontends or 1)
        os.close(fd)  # mapped
        for model, (info, specs) in enumerate(self._received.models):
            links = [EngineChannel(spec, next(memories)) for spec in specs]
            for link in links:
                link.on_hang = partial(self._report_hung, len(self._links))
                self._links.append(link)
            registry.add(assemble(info, links, settings, metrics, tally.of(number, model)))
        weights = {info.manifest.name: info.own.weights for info, _ in self._received.models if info.own.weights is not None}
        registry.weigh(weights)
        self._starts = [0] * len(self._links)

    def _report_hung(self, link: int) -> None:
        self._outbox.post((handoff.HUNG, (link, self._starts[link])))

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
            self._starts[link] = start
            self._links[link].connect(socket.socket(fileno=descriptors[0]))
        elif kind == handoff.SCRAPE:
            self._report()
        elif kind == handoff.DRAIN and not ended.done():
            ended.set_result(True)


if __name__ == "__main__":
    main()
