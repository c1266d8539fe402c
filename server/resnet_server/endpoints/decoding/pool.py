"""All decoders of a process of the server: two lanes, a budget of memory, and a fair turn for each call."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Sequence

import numpy as np
from resnet_proto.manifest_pb2 import Input
from resnet_proto.preprocessing import channels_of

from resnet_server.endpoints.decoding import messages
from resnet_server.endpoints.decoding.budget import WaitingBudget
from resnet_server.endpoints.decoding.decoder import Data, Decoder, DecoderLostError, Wanted
from resnet_server.endpoints.decoding.limits import QUICK_SECONDS, SLOW_SECONDS
from resnet_server.endpoints.decoding.template import Template
from resnet_server.engines.api import Images
from resnet_server.errors import DeadlineError, InvalidRequestError

PIECE_IMAGES, PIECE_BYTES = 8, 256 << 10
"""Of a task in the quick lane: a crossing costs as much as a small image, and a large piece keeps the others waiting."""

HANG_SECONDS = 60.0
"""For a task, its waiting for memory included: one that gets no processor time is not ended by the bound on that."""


class Lane:
    """At most `size` decoders work at once; calls that wait for one get it in the order in which they came."""

    def __init__(self, kind: int, size: int, seconds: float, template: Template) -> None:
        self.kind = kind
        self.size = size
        self.seconds = seconds
        self._turns = asyncio.Semaphore(size)
        self._template = template
        self._idle: list[Decoder] = []

    @contextlib.asynccontextmanager
    async def decoder(self) -> AsyncIterator[Decoder]:
        """One for a task; killed at the end if that is not done."""
        async with self._turns:
            decoder = self._one_idle() or await self._template.make(self.kind, self.seconds)
            try:
                yield decoder
            finally:
                if decoder.is_idle:
                    self._idle.append(decoder)
                else:
                    decoder.close()

    def _one_idle(self) -> Decoder | None:
        while self._idle:
            decoder = self._idle.pop()
            if decoder.is_there():
                return decoder
            decoder.close()
        return None

    def close(self) -> None:
        """End the idle ones; the others end with their tasks."""
        while self._idle:
            self._idle.pop().close()


class DecoderPool:
    """`size` decoders for small images, and as many, which the system prefers less, for large ones; `budget` is of the latter's memory.

    An image may take `seconds` of processor time. The most that decoding takes is that budget and `QUICK_BYTES` for each quick decoder.
    """

    def __init__(self, size: int, max_pixels: int, budget: WaitingBudget, seconds: float = SLOW_SECONDS) -> None:
        self._template = Template()
        self._quick = Lane(messages.QUICK, size, QUICK_SECONDS, self._template)
        self._slow = Lane(messages.SLOW, size, seconds, self._template)
        self._max_pixels = max_pixels
        self._budget = budget

    def start(self) -> None:
        """Start the template, so that the first call need not wait for it."""
        self._template.start()

    async def close(self) -> None:
        """End all."""
        for lane in (self._quick, self._slow):
            lane.close()
        await self._template.close()

    async def decode(self, images: Sequence[Data], spec: Input, seconds: float | None) -> Images:
        """UINT8 [n, height, width, channels], within `seconds` (None: without end).

        Raises InvalidRequestError naming the image, DeadlineError, and ModelUnavailableError where there is no decoder. Whatever
        ends the call, ends the decoding.
        """
        shape = (len(images), spec.height, spec.width, channels_of(spec))
        rows = np.empty(shape, np.uint8)
        wanted = Wanted(spec.SerializeToString(), rows[0].nbytes, self._max_pixels, self._budget.most)
        try:
            async with asyncio.timeout(seconds):
                await _Decoding(self._quick, self._slow, self._budget, images, wanted, rows.reshape(len(images), -1)).run()
        except TimeoutError:
            raise DeadlineError("the deadline passed while the images were decoded") from None
        return rows


class _Decoding:
    """The images of one call: pieces of small ones first, then the large ones, each by as many turns as there are decoders.

    A large one whose decoder ended before it can have used up its time gets another: somebody has killed or stopped that one.
    """

    def __init__(self, quick: Lane, slow: Lane, budget: WaitingBudget, images: Sequence[Data], wanted: Wanted, rows: Images) -> None:
        self._quick, self._slow, self._budget = quick, slow, budget
        self._images, self._wanted, self._rows = images, wanted, rows
        self._heavy: deque[list[int]] = deque()
        self._interrupted: set[int] = set()

    async def run(self) -> None:
        """Fill the rows; the first error ends it all."""
        pieces = deque(self._pieces())
        await self._side_by_side(self._quick, pieces)
        await self._side_by_side(self._slow, self._heavy)

    def _pieces(self) -> list[list[int]]:
        """Neighbours that are small together; an image that is large by itself goes to the other lane unseen."""
        pieces: list[list[int]] = []
        room = 0
        for index, image in enumerate(self._images):
            if len(image) > PIECE_BYTES:
                self._heavy.append([index])
                continue
            if not pieces or len(image) > room or len(pieces[-1]) >= PIECE_IMAGES:
                pieces.append([])
                room = PIECE_BYTES
            pieces[-1].append(index)
            room -= len(image)
        return pieces

    async def _side_by_side(self, lane: Lane, pieces: deque[list[int]]) -> None:
        tasks = [asyncio.ensure_future(self._work(lane, pieces)) for _ in range(min(lane.size, len(pieces)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            await _end(tasks)

    async def _work(self, lane: Lane, pieces: deque[list[int]]) -> None:
        while pieces:
            piece, began = pieces.popleft(), time.monotonic()
            async with lane.decoder() as decoder:
                try:
                    async with asyncio.timeout(HANG_SECONDS):
                        await self._take_answers(decoder, piece)
                except (DecoderLostError, TimeoutError):
                    if lane is self._quick:
                        self._heavy.extend([index] for index in piece)
                    elif time.monotonic() - began < lane.seconds and piece[0] not in self._interrupted:
                        self._interrupted.add(piece[0])
                        pieces.append(piece)
                    else:
                        text = f"images[{piece[0]}]: cannot be decoded within {lane.seconds:g} s of processor time"
                        raise InvalidRequestError(text) from None

    async def _take_answers(self, decoder: Decoder, piece: list[int]) -> None:
        left = iter(piece)
        async with (
            contextlib.AsyncExitStack() as held,
            contextlib.aclosing(decoder.run([self._images[index] for index in piece], self._wanted)) as answers,
        ):
            async for kind, answer in answers:
                if kind == messages.NEEDS:
                    await held.enter_async_context(self._budget.taken(messages.LENGTH.unpack(answer)[0]))
                    await decoder.grant()
                else:
                    self._take(kind, answer, next(left))

    def _take(self, kind: bytes, answer: bytes, index: int) -> None:
        if kind == messages.ROWS:
            self._rows[index] = np.frombuffer(answer, np.uint8)
        elif kind == messages.HEAVY:
            self._heavy.append([index])
        else:
            text = answer.decode(errors="replace")
            told = f"{len(self._images[index])} bytes {text}" if text.startswith("cannot be decoded") else text
            raise InvalidRequestError(f"images[{index}]: {told}")


async def _end(tasks: "list[asyncio.Task[None]]") -> None:
    """Cancel and forget them: they have the error, whose traceback has the frame that waits. In a cycle, the images would stay for long."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
