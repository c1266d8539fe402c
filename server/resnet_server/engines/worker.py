"""The process of one engine: waits for orders, computes slots, answers; ends when the server's end of the socket closes."""

import json
import signal
import socket
import sys
import time
from pathlib import Path

from resnet_server.engines import wire
from resnet_server.engines.compute import Compute
from resnet_server.engines.device import Device
from resnet_server.engines.interface import EngineSpec
from resnet_server.engines.slots import Slots
from resnet_server.errors import ServingError


def main() -> None:
    """Arguments: the spec as JSON, the number of slots, and the descriptors of socket and memory."""
    for name in (signal.SIGINT, signal.SIGTERM):  # they reach the whole group; the server drains and then closes the socket
        signal.signal(name, signal.SIG_IGN)
    text, count, channel, memory = sys.argv[1:]
    with socket.socket(fileno=int(channel)) as server:
        try:
            spec = decode(text)
            slots = Slots(int(memory), spec, int(count))
            compute = Compute(spec)
            compute.warm_up(slots.images[0])
        except ServingError as error:
            server.send(wire.BROKEN + str(error).encode()[: wire.LONGEST - 1])
            return
        server.send(wire.READY)
        serve(server, slots, compute)


def serve(server: socket.socket, slots: Slots, compute: Compute) -> None:
    """Compute order after order until the socket ends."""
    while order := server.recv(wire.ORDER.size):
        slot, rows, alone = wire.ORDER.unpack(order)
        started = time.perf_counter()
        try:
            slots.logits[slot][:rows] = compute.run(slots.images[slot], rows, bool(alone))
            answer = wire.DONE.pack(wire.ANSWER, slot, time.perf_counter() - started)
        except Exception as error:  # the engine lives on: one batch failed
            answer = wire.FAILED.pack(wire.ERROR, slot) + str(error).encode()[: wire.LONGEST - wire.FAILED.size]
        try:
            server.send(answer)
        except OSError:  # the server has ended
            return


def encode(spec: EngineSpec) -> str:
    """The spec as JSON."""
    values = {name: getattr(spec, name) for name in ("threads", "wide_threads", "max_rows", "height", "width", "classes")}
    device = spec.device
    return json.dumps({**values, "path": str(spec.path), "device": [device.kind, device.provider, device.reason]})


def decode(text: str) -> EngineSpec:
    """The spec from JSON."""
    values = json.loads(text)
    return EngineSpec(**{**values, "path": Path(values["path"]), "device": Device(*values["device"])})


if __name__ == "__main__":
    main()
