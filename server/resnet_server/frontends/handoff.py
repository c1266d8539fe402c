"""What crosses the border between the server and a front end, pickled over a socket between our own processes.

To the front end: a `Handoff`, with each model's memory as descriptors (its tally, and the slots of each of its engines); then `CONNECT`
with an engine's number and how often it was started, and a socket, after each start of that engine; `SCRAPE`; and `DRAIN`. Back:
`WAITING` once it has everything imported and waits for the `Handoff`; `OPEN` once it listens; `METRICS` for each `SCRAPE`, every second,
and when it has drained; and `HUNG` with the two numbers of an engine in which a batch hangs.

Models that change: `PREPARE` brings a model with its memory, `SWITCH` says what is served from then on, `RETIRE` ends a model when it has
answered what it took in. Each has a number, which `DONE` gives back. `ASK` is a caller's load or unload, and `TOLD` how it ended.
"""

import asyncio
import contextlib
import copyreg
import os
import pickle
import socket
import struct
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from resnet_server.engines.api import Device, EngineSpec, NetworkFile
from resnet_server.models.model_settings import ModelSettings
from resnet_server.models.registry import Change, Refused
from resnet_server.models.served_model import ModelInfo
from resnet_server.settings import Settings

WAITING = "waiting"
CONNECT, SCRAPE, DRAIN, OPEN, METRICS, FAILED, HUNG = "connect", "scrape", "drain", "open", "metrics", "failed", "hung"
PREPARE, SWITCH, RETIRE, DONE, ASK, TOLD = "prepare", "switch", "retire", "done", "ask", "told"
PATIENCE_SECONDS = 10.0
"""For the rest of a message, on the front end's side; event loops make sockets non-blocking, and half a message must not be lost."""
MOST_DESCRIPTORS = 200  # SCM_MAX_FD is 253
_HEAD = struct.Struct("<QI")


def _by_fields(value: Any) -> tuple[type, tuple[Any, ...]]:
    """By itself, pickle sets the attributes one by one, which a frozen class refuses once it is compiled."""
    return type(value), tuple(getattr(value, each.name) for each in fields(value))


for _compiled in (Device, EngineSpec, NetworkFile):
    copyreg.pickle(_compiled, _by_fields)


@dataclass(frozen=True)
class SharedModel:
    """A model by its number, and the specs of its engines by theirs."""

    number: int
    info: ModelInfo
    engines: tuple[tuple[int, EngineSpec], ...]


@dataclass(frozen=True)
class Served:
    """What callers find: models by number, their own settings, and what the index says beside them."""

    models: tuple[int, ...] = ()
    own: Mapping[str, ModelSettings] = field(default_factory=dict)
    refused: tuple[Refused, ...] = ()
    changing: Mapping[tuple[str, str], Change] = field(default_factory=dict)


@dataclass(frozen=True)
class Handoff:
    """All that a front end needs: its number, settings with the port, the models that are warm, and which of them are served."""

    number: int
    log_level: int
    settings: Settings
    models: tuple[SharedModel, ...]
    served: Served


def send(channel: socket.socket, message: Any, descriptors: Sequence[int] = ()) -> None:
    """Send one message; blocks while the other side does not read."""
    for data, group in _pieces(message, descriptors):
        if group is None:
            channel.sendall(data)
        else:
            socket.send_fds(channel, [data], group)


def receive(channel: socket.socket) -> tuple[Any, list[int]]:
    """Wait for one message and its descriptors; raises EOFError at the end."""
    length, groups = _HEAD.unpack(_exactly(channel, _HEAD.size))
    descriptors: list[int] = []
    for _ in range(groups):
        data, found, _, _ = socket.recv_fds(channel, 1, MOST_DESCRIPTORS)
        if not data:
            raise EOFError
        descriptors += found
    return pickle.loads(_exactly(channel, length)), descriptors  # noqa: S301  # from our own process


class Inbox:
    """Messages without descriptors from a socket that does not block; what has come of the next one is kept."""

    def __init__(self) -> None:
        self._data = bytearray()

    def read(self, channel: socket.socket) -> Iterator[Any]:
        """The messages that are whole now; raises EOFError at the end and BlockingIOError where nothing has come."""
        part = channel.recv(1 << 20)
        if not part:
            raise EOFError
        self._data += part
        while len(self._data) >= _HEAD.size:
            length, groups = _HEAD.unpack_from(self._data)
            begin = _HEAD.size + groups
            if len(self._data) < begin + length:
                return
            message = pickle.loads(self._data[begin : begin + length])  # noqa: S301  # from our own process
            del self._data[: begin + length]
            yield message


class Outbox:
    """Messages to a process that may have been stopped: what it does not take now waits, and the event loop goes on."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[tuple[bytes, list[int] | None]] = deque()
        self._waits = False

    def __len__(self) -> int:
        """Pieces of messages that wait."""
        return len(self._pieces)

    def post(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message as soon as there is room for it; `descriptors` may be closed at once."""
        self._pieces += _pieces(message, [os.dup(descriptor) for descriptor in descriptors])
        self._flush()

    def close(self) -> None:
        """Forget what waits; to be called before the socket is closed."""
        if self._waits:
            self._loop.remove_writer(self._channel.fileno())
            self._waits = False
        for _, group in self._pieces:
            _close_all(group)
        self._pieces.clear()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._pieces:
                data, group = self._pieces[0]
                try:
                    sent = self._channel.send(data) if group is None else socket.send_fds(self._channel, [data], group)
                except BlockingIOError:
                    raise
                except OSError:  # it has died, which is noticed by the end of its socket
                    self.close()
                    return
                self._pieces.popleft()
                _close_all(group)
                if sent < len(data):
                    self._pieces.appendleft((data[sent:], None))
        self._wait_if(bool(self._pieces))

    def _wait_if(self, more: bool) -> None:
        if more and not self._waits:
            self._loop.add_writer(self._channel.fileno(), self._flush)
        elif self._waits and not more:
            self._loop.remove_writer(self._channel.fileno())
        self._waits = more


def _close_all(descriptors: list[int] | None) -> None:
    for descriptor in descriptors or ():
        os.close(descriptor)


def _pieces(message: Any, descriptors: Sequence[int]) -> Iterator[tuple[bytes, list[int] | None]]:
    """The head, one byte with each group of descriptors, and the message; only those bytes have a group."""
    data = pickle.dumps(message)
    groups = [list(descriptors[i : i + MOST_DESCRIPTORS]) for i in range(0, len(descriptors), MOST_DESCRIPTORS)]
    yield _HEAD.pack(len(data), len(groups)), None
    for group in groups:
        yield b"D", group
    yield data, None


def _exactly(channel: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = channel.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)
