"""Closed-loop load from processes of its own: as many calls in flight as asked for, the next when one is answered."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from hdrh.histogram import HdrHistogram
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

from resnet_bench.errors import BenchError
from resnet_bench.isolated import isolated
from resnet_bench.material import Material

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
HIGHEST_US, DIGITS = 600_000_000, 3
TIMEOUT = 60.0
MIN_AGREEMENT = 0.95  # of what the reference says; INT8 may differ on 1 % of images


@dataclass(frozen=True)
class Load:
    """What one generator process does; seconds of warm-up are not counted."""

    url: str
    model: str
    version: str
    precision: str
    concurrency: int
    rows: int
    warm_up: float
    seconds: float


@dataclass(frozen=True)
class Sample:
    """What was seen: calls and rows answered, seconds, and latencies in microseconds as an encoded HDR histogram."""

    calls: int
    rows: int
    seconds: float
    agreeing: int
    checked: int
    histogram: bytes

    @property
    def throughput(self) -> float:
        """Images a second."""
        return self.rows / self.seconds

    def latency_ms(self, percentile: float) -> float:
        """A percentile of latency in milliseconds."""
        histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
        histogram.decode_and_add(self.histogram)
        return float(histogram.get_value_at_percentile(percentile)) / 1e3


def measure(load: Load, material: Material) -> Sample:
    """Run the load in a fresh process; raise BenchError if a call failed or answers were wrong: such a run is void."""
    sample = isolated(generate, load, material)
    if not sample.calls:
        raise BenchError(f"void: {load.model}: no call was answered within {load.seconds:g} s")
    if sample.checked and sample.agreeing < MIN_AGREEMENT * sample.checked:
        raise BenchError(f"void: {load.model}: only {sample.agreeing} of {sample.checked} answers agree with the reference")
    return sample


def generate(load: Load, material: Material) -> Sample:
    """Drive the load in this process."""
    return asyncio.run(_Generator(load, material).run())


@dataclass(frozen=True)
class _Call:
    """A request ready to send, and the classes the reference gives for it."""

    data: bytes
    classes: "np.typing.NDArray[np.int64] | None"


class _Generator:
    def __init__(self, load: Load, material: Material) -> None:
        self._load = load
        self._calls = itertools.cycle(list(prepare(load, material)))
        self._histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
        self._answered = self._agreeing = self._checked = 0
        self._counts_from = 0.0
        self._ends = 0.0

    async def run(self) -> Sample:
        async with grpc.aio.insecure_channel(self._load.url, options=OPTIONS) as channel:
            send = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
            self._counts_from = time.perf_counter() + self._load.warm_up
            self._ends = self._counts_from + self._load.seconds
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._load.concurrency):
                        group.create_task(self._loop(send))
            except ExceptionGroup as failures:
                raise self._void(failures.exceptions[0]) from None
        counted = self._answered
        return Sample(
            counted, counted * self._load.rows, self._load.seconds, self._agreeing, self._checked, bytes(self._histogram.encode())
        )

    async def _loop(self, send: "grpc.aio.UnaryUnaryMultiCallable[Any, Any]") -> None:
        while (started := time.perf_counter()) < self._ends:
            call = next(self._calls)
            answer: bytes = await send(call.data, timeout=TIMEOUT)
            ended = time.perf_counter()
            if self._counts_from <= ended <= self._ends:
                self._answered += 1
                self._histogram.record_value(max(1, round(1e6 * (ended - started))))
                self._check(call, answer)

    def _check(self, call: _Call, answer: bytes) -> None:
        response = ModelInferResponse.FromString(answer)
        logits = np.frombuffer(response.raw_output_contents[0], np.float32).reshape(tuple(response.outputs[0].shape))
        if len(logits) != self._load.rows:
            raise BenchError(f"{len(logits)} rows answered for {self._load.rows}")
        if call.classes is not None:
            self._agreeing += int((logits.argmax(1) == call.classes).sum())
            self._checked += len(logits)

    def _void(self, error: Exception) -> BenchError:
        text = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.aio.AioRpcError) else str(error)
        return BenchError(f"void: {self._load.model}: a call failed: {text}")


def prepare(load: Load, material: Material) -> Iterator[_Call]:
    """Distinct requests of `rows` images each."""
    for start in range(0, len(material.images), max(1, min(load.rows, len(material.images)))):
        window = material.window(start, load.rows)
        request = ModelInferRequest(model_name=load.model, model_version=load.version)
        request.inputs.add(name="image", datatype="UINT8", shape=window.images.shape)
        request.raw_input_contents.append(window.images.tobytes())
        yield _Call(request.SerializeToString(), window.classes)
