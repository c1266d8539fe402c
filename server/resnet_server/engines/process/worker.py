"""The process of one engine: waits for orders on its channels, computes slots, answers; ends when its owner's socket closes."""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

from resnet_server.engines.api import Device, EngineSpec, NetworkFile
from resnet_server.engines.compute import Compute
from resnet_server.engines.process import messages
from resnet_server.engines.process.shared_slots import IDLE, SharedSlots
from resnet_server.errors import ServingError
from resnet_server.processes.logs import set_up_logging

BEYOND_REPAIR = ("CUDA failure", "CUDA error")  # a CUDA context that has failed once fails for ever: only a new process helps


def main() -> None:
    """Arguments: the spec as JSON, the level of the log, and the descriptor of the owner's socket."""
    for name in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the server drains and then closes the socket
        signal.signal(name, signal.SIG_IGN)
    text, level, descriptor = sys.argv[1:]
    set_up_logging(int(level))
    with socket.socket(fileno=int(descriptor)) as owner, contextlib.suppress(BrokenPipeError):  # the owner is gone before all is warm
        try:
            spec = decode(text)
            os.nice(spec.niceness)
            networks = [Compute(each) for each in spec.networks]
            for network in networks:
                network.warm_up(spec.blank())
        except ServingError as error:
            owner.send(messages.BROKEN + str(error).encode()[: messages.LONGEST - 1])
            return
        owner.send(messages.READY)
        Worker(spec, networks, owner).serve()


class Worker:
    """Serves its channels in turn, an order at a time, so that none waits behind another's backlog.

    `networks` are those of the spec, by number. Memory is pinned for a process, whichever of them uses it.
    """

    def __init__(self, spec: EngineSpec, networks: Sequence[Compute], owner: socket.socket) -> None:
        self._spec = spec
        self._networks = networks
        self._owner = owner
        self._selector = selectors.DefaultSelector()
        self._selector.register(owner, selectors.EVENT_READ)

    def serve(self) -> None:
        """Compute order after order until the owner is gone."""
        try:
            while self._serve_once():
                pass
        finally:
            for key in list(self._selector.get_map().values()):
                if isinstance(key.data, SharedSlots):
                    self._detach(key.fileobj, key.data)  # type: ignore[arg-type]  # the sockets registered below
            self._selector.close()

    def _serve_once(self) -> bool:
        for key, _ in self._selector.select():
            if isinstance(key.data, SharedSlots):
                self._take(key.fileobj, key.data)  # type: ignore[arg-type]  # the sockets registered below
            elif not self._attach():
                return False
        return True

    def _attach(self) -> bool:
        """Take a new channel; False once the owner has closed."""
        message, descriptors, _, _ = socket.recv_fds(self._owner, 1, 2)
        if not message:
            return False
        channel, memory = descriptors
        slots = SharedSlots(memory, self._spec, messages.DEPTH)
        os.close(memory)  # mapped
        for images in slots.images:
            self._networks[0].pin(images)
        self._selector.register(socket.socket(fileno=channel), selectors.EVENT_READ, slots)
        return True

    def _take(self, channel: socket.socket, slots: SharedSlots) -> None:
        try:
            order = channel.recv(messages.ORDER.size)
        except OSError:
            order = b""
        if not order:
            self._detach(channel, slots)
            return
        try:
            channel.send(self._run(slots, *messages.ORDER.unpack(order)))
        except OSError:  # that front end has ended; its socket says so next
            return

    def _detach(self, channel: socket.socket, slots: SharedSlots) -> None:
        self._selector.unregister(channel)
        channel.close()
        for images in slots.images:
            self._networks[0].unpin(images)
        slots.close()

    def _run(self, slots: SharedSlots, slot: int, rows: int, alone: int, network: int) -> bytes:
        started = time.perf_counter()
        slots.running = slot
        try:
            slots.logits[slot][:rows] = self._networks[network].run(slots.images[slot], rows, bool(alone))
            answer = messages.DONE.pack(messages.ANSWER, slot, time.perf_counter() - started)
        except Exception as error:  # the engine lives on: one batch failed
            if any(sign in str(error) for sign in BEYOND_REPAIR):
                raise  # with the slot still marked as running: the batch was begun, and must not be run again
            answer = messages.FAILED.pack(messages.ERROR, slot) + str(error).encode()[: messages.LONGEST - messages.FAILED.size]
        slots.running = IDLE
        return answer


def encode(spec: EngineSpec) -> str:
    """The spec as JSON."""
    names = ("threads", "wide_threads", "max_rows", "height", "width", "classes", "channels", "sha256", "niceness", "runtime", "own_sizes")
    values = {name: getattr(spec, name) for name in names}
    others = [(str(file.path), file.sha256) for file in spec.others]
    return json.dumps({**values, "path": str(spec.path), "device": astuple(spec.device), "others": others})


def decode(text: str) -> EngineSpec:
    """The spec from JSON."""
    values = json.loads(text)
    others = tuple(NetworkFile(Path(path), sha256) for path, sha256 in values["others"])
    return EngineSpec(**{**values, "path": Path(values["path"]), "device": Device(*values["device"]), "others": others})
