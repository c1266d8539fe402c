"""Callers with known answers, and what is done to a server meanwhile: processes killed and stopped, connections cut."""

import asyncio
import io
import os
import random
import signal
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from fuzzing import CLASSIFIER, INFERENCE
from numpy.typing import NDArray
from PIL import Image
from processes import children, descendants, engines_of, front_ends_of, spares_of
from resnet_client import AsyncClient, messages
from resnet_client.messages import Asked, infer_request
from resnet_models.sample import load_sample
from resnet_proto import classifier_pb2
from resnet_proto import open_inference_pb2 as pb
from serving import RunningServer

MODEL, CALLERS = "resnet20", 64
PATIENCE = 30.0  # seconds in which every call has an answer or an error that says why not
RECONNECT = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 200), ("grpc.use_local_subchannel_pool", 1)]
TOLERANCE = 1e-3  # between batches of other sizes
ALLOWED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED})
RESET = struct.pack("ii", 1, 0)


@dataclass
class Answers:
    """What callers saw: statuses counted, and every fault in words."""

    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Known:
    """Photographs, UINT8 [n, 32, 32, 3], and the logits, FP32 [n, 10], that a calm server gave."""

    images: NDArray[np.uint8]
    logits: NDArray[np.float32]

    def __post_init__(self) -> None:
        assert len(self.images) == len(self.logits)


async def known(url: str) -> Known:
    """What a calm server says to the sample."""
    images = load_sample().images[:128]
    async with AsyncClient(url) as client:
        return Known(images, np.asarray(await client.infer(images, model=MODEL)))


class Callers:
    """`count` that call in a closed loop until told to stop; of every eight, one sends an encoded image and one hangs up at times."""

    def __init__(self, url: str, known: Known, seed: int, count: int = CALLERS) -> None:
        self.answers = Answers()
        self.answered = asyncio.Event()
        self.recoveries_of_all: list[float] = []
        """Seconds from a mishap until each of them had been answered, of those after which they had before the next one."""
        self._since, self._missing = 0.0, set(range(count))
        self._url, self._known, self._seed, self._count = url, known, seed, count
        self._stopped = False

    async def run(self) -> None:
        channels = [grpc.aio.insecure_channel(self._url, [*RECONNECT, ("grpc.channel_id", number)]) for number in range(8)]
        try:
            await asyncio.gather(*(self._caller(number, channels[number % 8]) for number in range(self._count)))
        finally:
            await asyncio.gather(*(channel.close(None) for channel in channels))

    def stop(self) -> None:
        self._stopped = True

    def note_mishap(self) -> None:
        """Clear `answered`; what was sent before may still be answered, by whoever has come to no harm."""
        self.answered.clear()
        self._since, self._missing = time.monotonic(), set(range(self._count))

    def _note_answer(self, number: int) -> None:
        self.answered.set()
        if number in self._missing:
            self._missing.remove(number)
            if not self._missing and self._since:
                self.recoveries_of_all.append(time.monotonic() - self._since)

    async def _caller(self, number: int, channel: grpc.aio.Channel) -> None:
        chance = random.Random(self._seed * CALLERS + number)
        infer = channel.unary_unary(INFERENCE + "ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
        classify = channel.unary_unary(
            CLASSIFIER + "Classify", classifier_pb2.ClassifyRequest.SerializeToString, classifier_pb2.ClassifyResponse.FromString
        )
        while not self._stopped:
            count = 1 if number % 8 == 7 else chance.choice((1, 1, 1, 4, 8))
            start = chance.randrange(len(self._known.images) - count + 1)
            expected = self._known.logits[start : start + count]
            if number % 8 == 7:
                request = classifier_pb2.ClassifyRequest(model_name=MODEL, images=[png(self._known.images[start])], top_k=1)
                await self._judge(number, classify(request, timeout=PATIENCE), partial(_same_class, expected))
            else:
                call = infer(infer_request(self._known.images[start : start + count], Asked(MODEL)), timeout=PATIENCE)
                if number % 8 == 6 and chance.random() < 0.3:
                    await self._hang_up(call)
                else:
                    await self._judge(number, call, partial(_same_logits, expected))

    async def _hang_up(self, call: Any) -> None:
        ended = asyncio.ensure_future(call.code())
        await asyncio.wait((ended,), timeout=0.001)
        call.cancel()
        await ended
        self.answers.statuses["cancelled by the caller"] += 1

    async def _judge(self, number: int, call: Any, is_right: Callable[[object], bool]) -> None:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self.answers.statuses[error.code().name] += 1
            if error.code() not in ALLOWED:
                self.answers.faults.append(f"{error.code().name}: {error.details()}")
        else:
            self.answers.statuses["OK"] += 1
            self._note_answer(number)
            if not is_right(answer):
                self.answers.faults.append(f"a wrong answer: {str(answer)[:300]}")


def _same_logits(expected: NDArray[np.float32], answer: object) -> bool:
    assert isinstance(answer, pb.ModelInferResponse)
    return bool(np.allclose(messages.logits(answer, len(expected)), expected, atol=TOLERANCE))


def _same_class(expected: NDArray[np.float32], answer: object) -> bool:
    assert isinstance(answer, classifier_pb2.ClassifyResponse)
    (found,) = answer.results
    return bool(found.labels[0].index == expected[0].argmax())


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Of UINT8 [height, width, 3]."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def templates_of(server: RunningServer) -> list[int]:
    """What the server, or its front ends, fork their decoders from."""
    owners = [server.process.pid, *front_ends_of(server)]
    return [pid for owner in owners for pid in _children(owner, "resnet_server.endpoints.decoding.worker")]


def decoders_of(server: RunningServer) -> list[int]:
    """Those that have been forked, busy or idle."""
    return [pid for template in templates_of(server) for pid in descendants(template)]


def _children(parent: int, module: str) -> list[int]:
    with suppress(FileNotFoundError):  # ended meanwhile
        return children(parent, module)
    return []


def mishaps(server: RunningServer) -> dict[str, Callable[[], Sequence[int]]]:
    """What may be done to it, and to which processes."""
    kinds = {
        "an engine": engines_of,
        "a front end": front_ends_of,
        "a spare front end": spares_of,
        "a decoder": decoders_of,
        "a decoders' template": templates_of,
    }
    return {name: partial(find, server) for name, find in kinds.items()}


@dataclass
class Trouble:
    """Kills and stops processes of a server, one after another, each once there was an answer since the last; `done` tells what it did.

    `recoveries` has the seconds until somebody had an answer after each, and `slowest` the most of each kind.
    """

    server: RunningServer
    chance: random.Random
    done: Counter[str] = field(default_factory=Counter)
    recoveries: list[float] = field(default_factory=list)
    slowest: dict[str, float] = field(default_factory=dict)

    async def make(self, callers: Callers, seconds: float, pause: float) -> None:
        """For so long; `pause` seconds lie between two mishaps."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            name, find = self.chance.choice(list(mishaps(self.server).items()))
            kind = self.befall(name, find(), self.chance.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP)))
            if not kind:
                continue
            callers.note_mishap()
            began = time.monotonic()
            await asyncio.wait_for(callers.answered.wait(), PATIENCE)
            self.recoveries.append(time.monotonic() - began)
            self.slowest[kind] = max(self.slowest.get(kind, 0.0), round(self.recoveries[-1], 3))
            await asyncio.sleep(pause)

    def befall(self, name: str, pids: Sequence[int], number: signal.Signals) -> str:
        """Send it to one of these processes; what was done to whom, or nothing where there is none."""
        with suppress(ProcessLookupError):
            if pids:
                os.kill(self.chance.choice(pids), number)
                kind = f"{name} {'killed' if number is signal.SIGKILL else 'stopped'}"
                self.done[kind] += 1
                return kind
        return ""

    async def stop_an_engine(self, callers: Callers) -> None:
        """Once callers are answered, while their batches run."""
        await asyncio.wait_for(callers.answered.wait(), PATIENCE)
        assert self.befall("an engine", engines_of(self.server), signal.SIGSTOP)


class Recorder:
    """A relay that keeps what one real client sends, byte by byte, to be sent again by callers that vanish."""

    def __init__(self) -> None:
        self.sent = bytearray()

    async def record(self, url: str, request: pb.ModelInferRequest) -> bytes:
        """All that a client says on a new connection for one ModelInfer."""
        host, _, port = url.rpartition(":")
        relay = await asyncio.start_server(lambda reader, writer: self._relay(reader, writer, host, int(port)), "127.0.0.1", 0)
        async with relay, grpc.aio.insecure_channel(f"127.0.0.1:{relay.sockets[0].getsockname()[1]}") as channel:
            infer = channel.unary_unary(INFERENCE + "ModelInfer", pb.ModelInferRequest.SerializeToString, pb.ModelInferResponse.FromString)
            await infer(request)
            return bytes(self.sent)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, port: int) -> None:
        theirs, ours = await asyncio.open_connection(host, port)
        await asyncio.gather(self._copy(reader, ours, self.sent), self._copy(theirs, writer, bytearray()))

    @staticmethod
    async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, kept: bytearray) -> None:
        with suppress(ConnectionError):
            while data := await source.read(1 << 16):
                kept += data
                target.write(data)
                await target.drain()
        target.close()


async def vanish(url: str, said: bytes, count: int, seed: int) -> None:
    """Connect so often, say a part of what a client says, and cut the connection without a word."""
    host, _, port = url.rpartition(":")
    chance = random.Random(seed)
    loop = asyncio.get_running_loop()
    for _ in range(count):
        with socket.socket() as caller, suppress(OSError):
            caller.setblocking(False)
            await loop.sock_connect(caller, (host, int(port)))
            await loop.sock_sendall(caller, said[: chance.choice((0, 10, 24, chance.randrange(len(said)), len(said)))])
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def descriptors(pid: int) -> int:
    """Open in a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))
