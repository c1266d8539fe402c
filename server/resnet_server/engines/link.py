"""The server's half of a channel to an engine's process: slots in shared memory, and a socket that says which are filled."""

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_server.engines import wire
from resnet_server.engines.interface import EngineSpec, Images, Outcome
from resnet_server.engines.slots import IDLE, Slots, allocate
from resnet_server.errors import EngineDiedError, EngineError


@dataclass
class _Order:
    slot: int
    rows: int
    done: Callable[[Outcome], None]


class EngineLink:
    """An engine as the batcher sees it; whoever owns the process connects it, and again after each restart."""

    depth = wire.DEPTH

    def __init__(self, spec: EngineSpec, memory: int | None = None) -> None:
        self.spec = spec
        self.memory = allocate(spec, wire.DEPTH) if memory is None else memory
        self._slots = Slots(self.memory, spec, wire.DEPTH)
        self._free = list(range(wire.DEPTH))
        self._orders: deque[_Order] = deque()
        self._changed: Callable[[], None] = lambda: None
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None

    @property
    def ready(self) -> bool:
        """See `Engine.ready`."""
        return self._socket is not None

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Engine.watch`."""
        self._changed = changed

    def connect(self, ours: socket.socket) -> None:
        """Use this end of a socket whose other end, and `memory`, the engine has."""
        if self._socket is not None:  # the end of the old one has not been read yet
            self._lost()
        ours.setblocking(False)
        self._slots.running = IDLE
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._read)
        self._changed()

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
        except OSError:
            self._loop.call_soon(self._lost)  # it has just died

    def close_link(self) -> None:
        """Let go of socket and memory; what still runs is not waited for."""
        self._changed = lambda: None
        self._hang_up()
        self._slots.close()
        os.close(self.memory)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(wire.LONGEST)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._lost()
                return
            self._end(message)

    def _end(self, message: bytes) -> None:
        order = self._orders.popleft()
        if message[:1] == wire.ANSWER:
            seconds = wire.DONE.unpack(message)[2]
            outcome = Outcome(self._slots.logits[order.slot][: order.rows].copy(), seconds)
        else:
            outcome = Outcome(error=EngineError(message[wire.FAILED.size :].decode(errors="replace")))
        self._free.append(order.slot)
        order.done(outcome)

    def _lost(self) -> None:
        """Give every batch back: the one that ran fails, those that lay ready can run elsewhere."""
        self._hang_up()
        running, orders = self._slots.running, list(self._orders)
        self._orders.clear()
        self._free = list(range(wire.DEPTH))
        for order in orders:
            error = EngineDiedError("the engine's process ended while it computed; try again")
            order.done(Outcome(error=error, begun=order.slot == running))

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
