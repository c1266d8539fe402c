"""An engine in a process of its own, fed through shared memory.

The event loop and ONNX Runtime never contend for one interpreter's lock, and a native crash costs one batch, not the server.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resnet_server.engines.api import Engine, EngineSpec
from resnet_server.engines.process import messages
from resnet_server.engines.process.channel import EngineChannel
from resnet_server.engines.process.worker import encode
from resnet_server.errors import EngineError, ServingError
from resnet_server.processes.child import Child

log = logging.getLogger(__name__)

LEAST_START_SECONDS, START_TIMES = 15.0, 5.0
"""A restarted engine that is not warm, or whose replay has not ended, after so many times what the start before took hangs."""


@dataclass(frozen=True)
class Plug:
    """Somebody who wants a channel: its `memory`, and who is told the server's end of each new socket."""

    memory: int
    connect: Callable[[socket.socket], None]


class EngineProcess:
    """Starts the process, and again when it dies; gives a channel to everyone who is plugged in.

    Once `certify` is set, a process that was started again gives channels to others only after that has found nothing wrong with the
    engine; EngineError ends the process, and it is tried again.
    """

    def __init__(self, spec: EngineSpec, on_restart: Callable[[], None] = lambda: None) -> None:
        level = str(logging.getLogger().getEffectiveLevel())
        self.spec = spec
        self.child = Child("engine", ("resnet_server.engines.process.worker", encode(spec), level), socket.SOCK_SEQPACKET)
        self.child.read, self.child.lost, self.child.died = self._receive, self._lost, self._died
        self.certify: Callable[[Engine], Awaitable[None]] | None = None
        self.ready = False
        self.starts = 0
        self._on_restart = on_restart
        self._plugs: list[Plug] = []
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._check: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the process and wait until every bucket is warm; raise EngineError if it cannot."""
        try:
            self.child.start()
        except OSError as error:
            raise EngineError(f"the engine's process cannot be started: {error.strerror}") from None
        await self._opened

    def plug_in(self, plug: Plug) -> None:
        """Give it a channel now, and a new one after each restart."""
        self._plugs.append(plug)
        if self.ready:
            self._connect(plug)

    def unplug(self, plug: Plug) -> None:
        """Give it no more channels."""
        self._plugs.remove(plug)

    def kill(self) -> None:
        """End the process, for a batch hangs in it; it starts again."""
        log.error("engine: a batch hangs in process %d; ending it", self.child.pid)
        self.child.kill()

    async def close(self) -> None:
        """End the process; what still runs is not waited for."""
        self._lost()
        await self.child.close()

    def _receive(self, owner: socket.socket) -> bool:
        message = owner.recv(messages.LONGEST)
        if message[:1] == messages.READY:
            self.child.patience = max(LEAST_START_SECONDS, START_TIMES * self.child.arrived())
            if self.certify is None:
                self._serve()
            else:
                self._check = asyncio.get_running_loop().create_task(self._serve_once_certified(self.certify))
        elif message:
            self._settle(EngineError(message[1:].decode(errors="replace")))
        return bool(message)

    async def _serve_once_certified(self, certify: Callable[[Engine], Awaitable[None]]) -> None:
        """Look at the engine over a channel that nobody else has."""
        try:
            channel = EngineChannel(self.spec)
            try:
                self._connect(Plug(channel.memory, channel.connect))
                async with asyncio.timeout(self.child.patience):
                    await certify(channel)
            finally:
                channel.close_channel()
            self._serve()
        except (ServingError, OSError, TimeoutError) as error:
            log.error("engine: it does not serve after its restart: %s", error or f"the replay took more than {self.child.patience:g} s")
            self.child.kill()

    def _serve(self) -> None:
        self.ready = True
        self.child.proven()
        self.starts += 1
        for plug in tuple(self._plugs):
            self._connect(plug)
        self._settle(None)

    def _connect(self, plug: Plug) -> None:
        """Without a descriptor to spare, the process is ended: it is tried again later, when there may be one."""
        if self.child.socket is None:  # it has just died; the plug is asked again after the restart
            return
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            log.error("engine: no channel to it: %s", error.strerror)
            self.child.kill()
            return
        with theirs, contextlib.suppress(OSError):  # if it has just died, the end of its socket is seen next
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

    def _lost(self) -> None:
        self.ready = False
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def _died(self, status: int) -> bool:
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
        self.on_hang = self.process.kill

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
