"""An engine in a process of its own, fed through shared memory.

The event loop and ONNX Runtime never contend for one interpreter's lock, and a native crash costs one batch, not the server.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_server.engines import wire
from resnet_server.engines.interface import EngineSpec, Images, Outcome
from resnet_server.engines.slots import Slots, allocate
from resnet_server.engines.worker import encode
from resnet_server.errors import EngineDiedError, EngineError

log = logging.getLogger(__name__)

DEPTH = 2
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 30.0
STABLE_SECONDS = 60.0
STOP_SECONDS = 10.0


@dataclass
class _Order:
    slot: int
    rows: int
    done: Callable[[Outcome], None]


class ProcessEngine:
    """Starts its process, and starts it again when it dies: `back_off` seconds later, twice as late each time."""

    depth = DEPTH

    def __init__(self, spec: EngineSpec, on_restart: Callable[[], None] = lambda: None) -> None:
        self.spec = spec
        self.ready = False
        self._on_restart = on_restart
        self._changed: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._memory = allocate(spec, DEPTH)
        self._slots = Slots(self._memory, spec, DEPTH)
        self._free = list(range(DEPTH))
        self._orders: deque[_Order] = deque()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self.back_off = FIRST_BACK_OFF
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    async def open(self) -> None:
        """Start the process and wait until every bucket is warm; raise EngineError if it cannot."""
        self._spawn()
        await self._opened

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Engine.watch`."""
        self._changed = changed

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None]) -> None:
        """See `Engine.start`."""
        order = _Order(self._free.pop(), rows, done)
        if len(parts) == 1:
            self._slots.images[order.slot][:rows] = parts[0]
        else:
            np.concatenate(parts, out=self._slots.images[order.slot][:rows])
        self._orders.append(order)
        try:
            if self._socket is None:
                raise OSError
            self._socket.send(wire.ORDER.pack(order.slot, rows, alone))
        except OSError:  # it has just died: the end of the socket will be seen and says so to all
            pass

    async def close(self) -> None:
        """End the process; what still runs is not waited for."""
        self._on_restart, self._changed = lambda: None, lambda: None
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        self._hang_up()
        if process is not None:
            await asyncio.to_thread(_reap, process)
        self._slots.close()
        os.close(self._memory)

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        arguments = [encode(self.spec), str(DEPTH), str(theirs.fileno()), str(self._memory)]
        command = [sys.executable, "-m", "resnet_server.engines.worker", *arguments]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(), self._memory), stdin=subprocess.DEVNULL)
        self._socket = ours
        self._started_at = time.monotonic()
        self._loop.add_reader(ours.fileno(), self._read)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(wire.LONGEST)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._died()
                return
            self._receive(message)

    def _receive(self, message: bytes) -> None:
        kind = message[:1]
        if kind == wire.READY:
            self.ready = True
            if not self._opened.done():
                self._opened.set_result(None)
            self._changed()
        elif kind == wire.BROKEN:
            if not self._opened.done():
                self._opened.set_exception(EngineError(message[1:].decode(errors="replace")))
            log.error("engine: %s", message[1:].decode(errors="replace"))
        else:
            self._end(message, kind)

    def _end(self, message: bytes, kind: bytes) -> None:
        order = self._orders.popleft()
        if kind == wire.ANSWER:
            seconds = wire.DONE.unpack(message)[2]
            outcome = Outcome(self._slots.logits[order.slot][: order.rows].copy(), seconds)
        else:
            outcome = Outcome(error=EngineError(message[wire.FAILED.size :].decode(errors="replace")))
        self._free.append(order.slot)
        order.done(outcome)

    def _died(self) -> None:
        process = self._process
        self._hang_up()
        if process is not None:
            process.kill()  # of use only where it closed the socket and lives on
        status = None if process is None else process.wait()
        opened = self._opened.done()
        if not opened:
            self._opened.set_exception(EngineError(f"the engine's process ended with status {status} before it was ready"))
            return
        log.error("engine: its process ended with status %s; %d batches were there; starting again", status, len(self._orders))
        if time.monotonic() - self._started_at > STABLE_SECONDS:
            self.back_off = FIRST_BACK_OFF
        self._timer = self._loop.call_later(self.back_off, self._spawn)
        self.back_off = min(2 * self.back_off, LONGEST_BACK_OFF)
        self._on_restart()
        self._give_back(status)

    def _give_back(self, status: int | None) -> None:
        """The first batch was running and fails; those that lay ready can run elsewhere."""
        orders, self._orders = list(self._orders), deque()
        self._free = list(range(DEPTH))
        for index, order in enumerate(orders):
            error = EngineDiedError(f"the engine's process ended with status {status} while it computed; try again")
            order.done(Outcome(error=error, begun=index == 0))

    def _hang_up(self) -> None:
        self.ready = False
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _reap(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
