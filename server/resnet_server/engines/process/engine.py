"""An engine in a process of its own, fed through shared memory.

The event loop and ONNX Runtime never contend for one interpreter's lock, and a native crash costs one batch, not the server.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass

from resnet_server.engines.api import EngineSpec
from resnet_server.engines.process import messages
from resnet_server.engines.process.channel import EngineChannel
from resnet_server.engines.process.worker import encode
from resnet_server.errors import EngineError
from resnet_server.processes.child import Child

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plug:
    """Somebody who wants a channel: its `memory`, and who is told the server's end of each new socket."""

    memory: int
    connect: Callable[[socket.socket], None]


class EngineProcess:
    """Starts the process, and again when it dies; gives a channel to everyone who is plugged in."""

    def __init__(self, spec: EngineSpec, on_restart: Callable[[], None] = lambda: None) -> None:
        self.ready = False
        self.child = Child("engine", ("resnet_server.engines.process.worker", encode(spec)), socket.SOCK_SEQPACKET)
        self.child.read, self.child.died = self._receive, self._died
        self._on_restart = on_restart
        self._plugs: list[Plug] = []
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Start the process and wait until every bucket is warm; raise EngineError if it cannot."""
        self.child.start()
        await self._opened

    def plug_in(self, plug: Plug) -> None:
        """Give it a channel now, and a new one after each restart."""
        self._plugs.append(plug)
        if self.ready:
            self._connect(plug)

    def unplug(self, plug: Plug) -> None:
        """Give it no more channels."""
        self._plugs.remove(plug)

    async def close(self) -> None:
        """End the process; what still runs is not waited for."""
        self.ready = False
        await self.child.close()

    def _receive(self, owner: socket.socket) -> bool:
        message = owner.recv(messages.LONGEST)
        if message[:1] == messages.READY:
            self.ready = True
            for plug in self._plugs:
                self._connect(plug)
            self._settle(None)
        elif message:
            self._settle(EngineError(message[1:].decode(errors="replace")))
        return bool(message)

    def _connect(self, plug: Plug) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, contextlib.suppress(OSError):  # if it has just died, the end of its socket is seen next, and the plug asked again
            assert self.child.socket is not None  # noqa: S101  # only called while the process is up
            socket.send_fds(self.child.socket, [messages.CHANNEL], [theirs.fileno(), plug.memory])
        plug.connect(ours)

    def _settle(self, error: EngineError | None) -> None:
        if error is not None:
            log.error("engine: %s", error)
        if self._opened.done():
            return
        if error is None:
            self._opened.set_result(None)
        else:
            self._opened.set_exception(error)

    def _died(self, status: int | None) -> bool:
        self.ready = False
        if not self._opened.done():
            self._opened.set_exception(EngineError(f"the engine's process ended with status {status} before it was ready"))
        if self._opened.exception() is not None:
            return False
        self._on_restart()
        return True


class ProcessEngine(EngineChannel):
    """An engine's process, and the link to it from the same event loop."""

    def __init__(self, spec: EngineSpec, on_restart: Callable[[], None] = lambda: None) -> None:
        super().__init__(spec)
        self.process = EngineProcess(spec, on_restart)
        self.process.plug_in(Plug(self.memory, self.connect))

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self.process.child.pid

    async def open(self) -> None:
        """See `EngineProcess.open`."""
        await self.process.open()

    async def close(self) -> None:
        """End the process; what still runs is not waited for."""
        self.close_channel()
        await self.process.close()
