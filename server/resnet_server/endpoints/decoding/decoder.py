"""The server's end of one decoder's process: a task at a time, without blocking the event loop."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from resnet_server.endpoints.decoding import messages

Data = bytes | memoryview


class DecoderLostError(Exception):
    """The process ended within a task: it used up its time, or the image ended it."""


@dataclass(frozen=True)
class Wanted:
    """What a call wants of its images: the manifest's `Input`, serialised, and the most pixels and bytes of an image."""

    spec: bytes
    row_bytes: int
    max_pixels: int
    max_bytes: int


class Decoder:
    """Sends tasks and reads their answers; to be killed, and not used again, where a task is given up."""

    def __init__(self, channel: socket.socket, lane: int, seconds: float) -> None:
        self.is_idle = True
        self._channel = channel
        self._lane, self._seconds = lane, seconds
        self._pid = 0
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Wait until the process is there. Raises DecoderLostError where none could be made."""
        self._pid = messages.HELLO.unpack(await self._read(messages.HELLO.size))[0]

    def is_there(self) -> bool:
        """False for an idle one whose process has ended."""
        try:
            return bool(self._channel.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """End the process, at once where it has a task."""
        self._channel.close()
        if self._pid and not self.is_idle:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)

    async def run(self, images: Sequence[Data], wanted: Wanted) -> AsyncGenerator[tuple[bytes, bytes], None]:
        """The kind of each answer, and the answer; whoever reads `NEEDS` calls `grant`. Raises DecoderLostError."""
        self.is_idle = False
        head = messages.TASK.pack(self._lane, self._seconds, len(wanted.spec), len(images), wanted.max_pixels, wanted.max_bytes)
        lengths = b"".join(messages.LENGTH.pack(len(image)) for image in images)
        await self._send(b"".join((head, wanted.spec, lengths)), *images)
        left = len(images)
        while left:
            kind, length = messages.ANSWER.unpack(await self._read(messages.ANSWER.size))
            if length > max(wanted.row_bytes, messages.LONGEST_TEXT) or (kind == messages.ROWS and length != wanted.row_bytes):
                raise DecoderLostError  # no decoder of ours answers so
            left -= kind != messages.NEEDS
            self.is_idle = not left
            yield kind, await self._read(length)

    async def grant(self) -> None:
        """Let it go on after `NEEDS`."""
        await self._send(messages.GRANT)

    async def _send(self, *parts: Data) -> None:
        try:
            for part in parts:
                await self._loop.sock_sendall(self._channel, part)
        except OSError:
            raise DecoderLostError from None

    async def _read(self, count: int) -> bytes:
        data, filled = bytearray(count), 0
        with memoryview(data) as view:
            while filled < count:
                try:
                    received = await self._loop.sock_recv_into(self._channel, view[filled:])
                except OSError:
                    received = 0
                if not received:
                    raise DecoderLostError
                filled += received
        return bytes(data)
