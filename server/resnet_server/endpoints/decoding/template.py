"""Makes decoders: the process that forks them, kept alive."""

import asyncio
import contextlib
import logging
import socket

from resnet_server.endpoints.decoding.decoder import Decoder, DecoderLostError
from resnet_server.errors import ModelUnavailableError
from resnet_server.processes.child import Child

log = logging.getLogger(__name__)

ATTEMPTS, NOTICED_SECONDS = 3, 0.2
HANG_SECONDS = 10.0  # in which a fork, or the start and a fork, is done on any machine


class Template:
    """A process that has everything imported; it is started again when it dies, and its decoders with it."""

    def __init__(self) -> None:
        self._child: Child | None = None
        self._is_up, self._gone = asyncio.Event(), asyncio.Event()
        self._unanswered = 0
        self._watch: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start the process, unless it has been; where the system cannot now, the next call tries again."""
        if self._child is not None:
            return
        child = Child("decoders", ("resnet_server.endpoints.decoding.worker",), socket.SOCK_SEQPACKET)
        child.started, child.read = self._started, self._read
        child.lost, child.died = self._lost, lambda _: True
        try:
            child.start()
        except OSError as error:
            log.error("decoders: cannot be started: %s", error.strerror)
        else:
            self._child = child

    async def make(self, lane: int, seconds: float) -> Decoder:
        """A decoder for tasks of at most `seconds` of processor time. Raises ModelUnavailableError where no process can be had."""
        for _ in range(ATTEMPTS):
            self.start()
            if self._child is None:
                break
            await self._is_up.wait()
            gone = self._gone
            try:
                return await self._fork(lane, seconds)
            except (OSError, DecoderLostError):
                with contextlib.suppress(TimeoutError):  # was it the template that ended, or is there no process to be had?
                    await asyncio.wait_for(gone.wait(), NOTICED_SECONDS)
        raise ModelUnavailableError("no process could be made to decode images in; try again later")

    async def _fork(self, lane: int, seconds: float) -> Decoder:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        ours.setblocking(False)
        decoder = Decoder(ours, lane, seconds)
        try:
            with theirs:
                self._ask(lane, theirs)
            await decoder.open()
        except BaseException:
            decoder.close()
            raise
        return decoder

    async def close(self) -> None:
        """End the process."""
        self._look_no_more()
        if self._child is not None:
            await self._child.close()

    def _ask(self, lane: int, theirs: socket.socket) -> None:
        if self._child is None or self._child.socket is None:
            raise DecoderLostError
        socket.send_fds(self._child.socket, [bytes((lane,))], [theirs.fileno()])
        self._unanswered += 1
        if self._watch is None:
            self._look_later()

    def _look_later(self) -> None:
        self._watch = asyncio.get_running_loop().call_later(HANG_SECONDS, self._hangs)

    def _look_no_more(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _hangs(self) -> None:
        self._watch = None
        if self._child is not None:
            log.error("decoders: process %d has made none in %g s; ending it", self._child.pid, HANG_SECONDS)
            self._child.kill()

    def _read(self, channel: socket.socket) -> bool:
        """A byte for each decoder made; at the end, nothing."""
        data = channel.recv(1)
        self._look_no_more()
        self._unanswered -= len(data)
        if data and self._child is not None:
            self._child.proven()
        if self._unanswered:
            self._look_later()
        return bool(data)

    def _started(self, _: socket.socket) -> None:
        self._gone = asyncio.Event()
        self._is_up.set()

    def _lost(self) -> None:
        self._look_no_more()
        self._unanswered = 0
        self._is_up.clear()
        self._gone.set()
