"""Damaged messages for every method of a running server, and what came back."""

import asyncio
import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2
from resnet_proto import classifier_pb2
from resnet_proto import open_inference_pb2 as pb

HOSTILE = Path(__file__).parents[1] / "data" / "hostile"
INFERENCE, CLASSIFIER, HEALTH = "/inference.GRPCInferenceService/", "/resnet.v1.Classifier/", "/grpc.health.v1.Health/"
NEVER = frozenset({grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNIMPLEMENTED})
INTERESTING = (b"", b"\x00", b"\xff", b"\x80" * 9 + b"\x01", b"\xff" * 10, b"\x0a\x00", b"\x2a\x00", b"\x3a\x00", b"\x7f", b"\x03", b"\x04")
SECONDS, PAUSE = 30.0, 0.005
STALL_SECONDS = 0.1
CONTEXT = multiprocessing.get_context("spawn")
AT_ONCE = 16


def inference_request(rows: int = 1, side: int = 32) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="resnet20")
    request.inputs.add(name="image", datatype="UINT8", shape=(rows, side, side, 3))
    request.raw_input_contents.append(np.random.default_rng(rows).integers(0, 256, rows * side * side * 3, np.uint8).tobytes())
    return request


def inference_seeds() -> list[bytes]:
    """Messages that are right, each with another part of the protocol in it."""
    plain, typed, full = inference_request(), inference_request(), inference_request(3)
    typed.inputs[0].contents.uint_contents.extend(typed.raw_input_contents[0])
    del typed.raw_input_contents[:]
    full.id, full.model_version = "7", "1"
    full.outputs.add(name="logits").parameters["classification"].int64_param = 3
    full.parameters["timeout"].int64_param = 10_000_000
    full.parameters["priority"].int64_param = 1
    full.parameters["trace"].string_param = "abc"
    return [request.SerializeToString() for request in (plain, typed, full)]


def seeds() -> dict[str, list[bytes]]:
    """Messages of each method."""
    images = [path.read_bytes() for path in sorted(HOSTILE.iterdir()) if path.suffix in (".jpg", ".png", ".webp", ".gif", ".bmp")]
    classify = [classifier_pb2.ClassifyRequest(images=[image], top_k=2).SerializeToString() for image in images]
    classify.append(classifier_pb2.ClassifyRequest(images=images, model_name="resnet20", precision="fp32").SerializeToString())
    return {
        INFERENCE + "ModelInfer": inference_seeds(),
        CLASSIFIER + "Classify": classify,
        CLASSIFIER + "ListModels": [b""],
        INFERENCE + "ModelReady": [pb.ModelReadyRequest(name="resnet20", version="1").SerializeToString()],
        INFERENCE + "ModelMetadata": [pb.ModelMetadataRequest(name="resnet20", version="1").SerializeToString()],
        INFERENCE + "RepositoryIndex": [pb.RepositoryIndexRequest(ready=True).SerializeToString()],
        INFERENCE + "ServerLive": [b""],
        HEALTH + "Check": [health_pb2.HealthCheckRequest(service="resnet20").SerializeToString()],
    }


def damaged(message: bytes, chance: random.Random) -> bytes:
    """The message after one to four mishaps."""
    data = bytearray(message)
    for _ in range(chance.randint(1, 4)):
        at, other = sorted((chance.randint(0, len(data)), chance.randint(0, len(data))))
        match chance.randrange(7):
            case 0 if data:
                data[at - 1] ^= 1 << chance.randrange(8)
            case 1:
                del data[at:other]
            case 2:
                data[at:at] = data[at:other]
            case 3:
                data[at:at] = chance.choice(INTERESTING) * chance.choice((1, 1, 1, 50, 5000))
            case 4:
                data[at:at] = chance.randbytes(chance.randint(1, 20))
            case 5:
                del data[at:]
            case _ if data:
                head = min(len(data), 80)  # where fields are, not pixels
                data[chance.randrange(head)] = chance.randrange(256)
    return bytes(data)


def inputs(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """A method and a message for it, `count` times: the methods that compute as often as all the others."""
    chance, all_seeds = random.Random(seed), seeds()
    methods = list(all_seeds)
    for _ in range(count):
        method = chance.choice(methods[:2]) if chance.random() < 0.7 else chance.choice(methods)
        message = chance.choice(all_seeds[method])
        yield method, message if chance.random() < 0.05 else damaged(message, chance)


@dataclass
class Tally:
    """How calls ended, those that ended as none may, and in seconds what a bystander waited for answers, and how late its pauses ended.

    The latter is the machine's doing: who is given no processor is late without a server.
    """

    statuses: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)

    def bystander(self) -> str:
        """What it saw, in one line."""
        parts = []
        for name, seconds in (("answers to a bystander took", self.waited), ("its pauses ended late by", self.late)):
            p50, p99, most = 1e3 * np.quantile(seconds, (0.5, 0.99, 1.0))
            slow = sum(each > STALL_SECONDS for each in seconds)
            parts.append(
                f"{name} {p50:.1f} ms p50, {p99:.1f} p99, {most:.0f} at most, {slow} of {len(seconds)} above {1e3 * STALL_SECONDS:.0f}"
            )
        return "; ".join(parts)


async def fuzz(url: str, count: int, seed: int) -> Tally:
    """Send damaged messages, AT_ONCE at a time, while a bystander asks whether the server lives."""
    tally, source = Tally(), inputs(count, seed)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    begun, over = CONTEXT.Event(), CONTEXT.Event()
    hears, tells = CONTEXT.Pipe(duplex=False)
    watching = CONTEXT.Process(target=bystander, args=(url, tells, begun, over), daemon=True)
    watching.start()
    tells.close()  # so that the other end is noticed
    try:
        assert await asyncio.to_thread(begun.wait, SECONDS)
        async with grpc.aio.insecure_channel(url, options) as channel:
            await asyncio.gather(*(_send(channel, source, tally) for _ in range(AT_ONCE)))
    finally:
        over.set()
        tally.waited, tally.late = await asyncio.to_thread(hears.recv)
        await asyncio.to_thread(watching.join)
    return tally


def bystander(url: str, tells: "Connection", begun: "Event", over: "Event") -> None:
    """Ask whether the server lives until it is over, in a process of its own: what those who send are busy with does not count."""
    with grpc.insecure_channel(url) as channel:
        live = channel.unary_unary(INFERENCE + "ServerLive", None, None)
        live(b"", timeout=SECONDS)
        waited, late = [], []
        begun.set()
        began = time.perf_counter()
        while not over.wait(PAUSE):
            started = time.perf_counter()
            live(b"", timeout=SECONDS)
            ended = time.perf_counter()
            waited.append(ended - started)
            late.append(started - began - PAUSE)
            began = ended
    tells.send((waited, late))


async def _send(channel: grpc.aio.Channel, source: Iterator[tuple[str, bytes]], tally: Tally) -> None:
    for method, message in source:
        try:
            await channel.unary_unary(method, None, None)(message, timeout=SECONDS)
            code = grpc.StatusCode.OK
        except grpc.aio.AioRpcError as error:
            code = error.code()
            if code in NEVER:
                tally.failures.append(f"{method} {message[:200].hex()} ({len(message)} bytes): {code.name}: {error.details()}")
        tally.statuses[code.name] += 1
