"""What crosses the border between the server and a front end, pickled over a socket between our own processes.

To the front end: a `Handoff`, with the memory of each engine's slots as descriptors; then `CONNECT` and an engine's number, with
a socket, after each start of that engine; `SCRAPE`; and `DRAIN`. Back: `OPEN` once it listens, and `METRICS` for each `SCRAPE`.
"""

import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from resnet_server.engines.api import EngineSpec
from resnet_server.models.registry import Refused
from resnet_server.models.served_model import ModelInfo
from resnet_server.settings import Settings

CONNECT, SCRAPE, DRAIN, OPEN, METRICS, FAILED = "connect", "scrape", "drain", "open", "metrics", "failed"
PATIENCE_SECONDS = 10.0
"""For the rest of a message; event loops make sockets non-blocking, and half a message must not be lost for that."""
MOST_DESCRIPTORS = 200  # SCM_MAX_FD is 253
_LENGTH = struct.Struct("<Q")


@dataclass(frozen=True)
class Handoff:
    """All that a front end needs: settings with the port, and the models with the specs of their engines."""

    log_level: int
    settings: Settings
    models: tuple[tuple[ModelInfo, tuple[EngineSpec, ...]], ...]
    refused: tuple[Refused, ...]


def send(channel: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send one message; blocks while the other side does not read."""
    data = pickle.dumps(message)
    groups = [descriptors[i : i + MOST_DESCRIPTORS] for i in range(0, len(descriptors), MOST_DESCRIPTORS)] or [()]
    channel.sendall(_LENGTH.pack(len(data)) + struct.pack("<I", len(groups)))
    for group in groups:
        socket.send_fds(channel, [b"D"], list(group))
    channel.sendall(data)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Wait for one message and its descriptors; raises EOFError at the end."""
    head = _exactly(channel, _LENGTH.size + 4)
    (length,), (groups,) = _LENGTH.unpack(head[: _LENGTH.size]), struct.unpack("<I", head[_LENGTH.size :])
    descriptors: list[int] = []
    for _ in range(groups):
        data, found, _, _ = socket.recv_fds(channel, 1, MOST_DESCRIPTORS)
        if not data:
            raise EOFError
        descriptors += found
    return pickle.loads(_exactly(channel, length)), descriptors  # noqa: S301  # from our own process


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = channel.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
