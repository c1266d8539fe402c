"""The server's half of a channel to an engine's process: slots in shared memory, and a socket that says which are filled."""

import asyncio
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from resnet_server.engines.api import EngineSpec, Images, Outcome
from resnet_server.engines.process import messages
from resnet_server.engines.process.shared_slots import IDLE, SharedSlots, allocate
from resnet_server.errors import EngineDiedError, EngineError


def died(begun: bool) -> Outcome:
    """Of a batch whose engine is gone."""
    return Outcome(error=EngineDiedError("the engine's process ended while it computed; try again"), begun=begun)


@dataclass
class _Order:
    slot: int
    rows: int
    done: Callable[[Outcome], None]


class EngineChannel:
    """An engine as the batcher sees it; whoever owns the process connects it, and again after each restart.

    Batches may be started on any thread, one at a time; all else happens on the event loop.
    """

    depth = messages.DEPTH

    def __init__(self, spec: EngineSpec, memory: int | None = None) -> None:
        self.spec = spec
        self.memory = allocate(spec, messages.DEPTH) if memory is None else memory
        self._slots = SharedSlots(self.memory, spec, messages.DEPTH)
        self._free = list(range(messages.DEPTH))
        self._orders: deque[_Order] = deque()
        self._changed: Callable[[], None] = lambda: None
        self.on_hang: Callable[[], None] = lambda: None
        """Called when a batch hangs; whoever owns the process ends it."""
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()  # of an order that is given while the socket is lost

    @property
    def ready(self) -> bool:
        """See `Engine.ready`."""
        return self._socket is not None

    def watch(self, changed: Callable[[], None]) -> None:
        """See `Engine.watch`."""
        self._changed = changed

    def kill(self) -> None:
        """See `Engine.kill`."""
        self.on_hang()

    def connect(self, ours: socket.socket) -> None:
        """Use this end of a socket whose other end, and `memory`, the engine has."""
        if self._socket is not None:  # the end of the old one has not been read yet
            self._lost()
        ours.setblocking(False)
        with self._lock:
            self._slots.running = IDLE
            self._socket = ours
        self._loop.add_reader(ours.fileno(), self._read)
        self._changed()

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        """See `Engine.start`."""
        with self._lock:
            order = _Order(self._free.pop(), rows, done)
            images = self._slots.images[order.slot][:rows]
            if len(parts) == 1:
                images[:] = parts[0]
            else:
                np.concatenate(parts, out=images)
            self._orders.append(order)
            try:
                if self._socket is None:
                    raise OSError
                self._socket.send(messages.ORDER.pack(order.slot, rows, alone, network))
            except OSError:  # it has just died, which is read next
                self._orders.pop()
                self._free.append(order.slot)
                self._loop.call_soon_threadsafe(done, died(begun=False))

    def close_channel(self) -> None:
        """Let go of socket and memory; what still runs is not waited for."""
        self._changed = lambda: None
        with self._lock:
            self._hang_up()
        self._slots.close()
        os.close(self.memory)

    def _read(self) -> None:
        while self._socket is not None:
            try:
                message = self._socket.recv(messages.LONGEST)
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
        if message[:1] == messages.ANSWER:
            seconds = messages.DONE.unpack(message)[2]
            outcome = Outcome(self._slots.logits[order.slot][: order.rows].copy(), seconds)
        else:
            outcome = Outcome(error=EngineError(message[messages.FAILED.size :].decode(errors="replace")))
        self._free.append(order.slot)
        order.done(outcome)

    def _lost(self) -> None:
        """Give every batch back: the one that ran fails, those that lay ready can run elsewhere."""
        with self._lock:
            self._hang_up()
            running, orders = self._slots.running, list(self._orders)
            self._orders.clear()
            self._free = list(range(messages.DEPTH))
        self._changed()  # first: what is given back must not be given to this engine again
        for order in orders:
            order.done(died(begun=order.slot == running))

    def _hang_up(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
