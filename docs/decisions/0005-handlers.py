"""What a call costs in a Python gRPC server before anything is computed: ways to write a handler, compared by h2load.

Run in an installed tree, with h2load: `python docs/decisions/0005-handlers.py --repeats 3 --duration 2s`. It prints calls a second and CPU
microseconds a call for each way, median [low, high] over the repeats, which are interleaved.
"""

import asyncio
import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import click
import grpc
import numpy as np
from resnet_bench.commands.shared import arguments, show
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.h2load import H2load
from resnet_bench.errors import BenchError, one_line_errors
from resnet_bench.machine import this_machine
from resnet_bench.options import WHOLE, Seconds
from resnet_bench.published import Material
from resnet_bench.recorder import Recorder
from resnet_bench.report.tables import shown, text_table
from resnet_bench.requests import Tensor
from resnet_bench.results import Facts, cells
from resnet_bench.subject import Subject
from resnet_bench.target import Target
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

CLASSES, THREADS = 10, 8
SERVICE = "inference.GRPCInferenceService"
AIO, THREAD_POOL, QUEUE = "grpc.aio:server", "grpc:server", "resnet_server.transport.server:QueueServer"
LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass(frozen=True)
class Way:
    """What makes the server; on uvloop or not; messages parsed or as bytes; the collector tamed or as it comes.

    `direct`: answered on the thread that takes calls in, without the event loop. `compiled`: from the folder of `make compiled`.
    """

    server: str
    uvloop: bool
    protobuf: bool
    frozen: bool
    direct: bool = False
    compiled: bool = False


WAYS = {
    "the server's own, direct": Way(QUEUE, uvloop=True, protobuf=False, frozen=True, direct=True),
    "the server's own, direct, compiled": Way(QUEUE, uvloop=True, protobuf=False, frozen=True, direct=True, compiled=True),
    "the server's own, on the event loop": Way(QUEUE, uvloop=True, protobuf=False, frozen=True),
    "grpc.aio, uvloop, bytes, frozen": Way(AIO, uvloop=True, protobuf=False, frozen=True),
    "the same, collector as it comes": Way(AIO, uvloop=True, protobuf=False, frozen=False),
    "the same, without uvloop": Way(AIO, uvloop=False, protobuf=False, frozen=True),
    "the same, messages parsed": Way(AIO, uvloop=True, protobuf=True, frozen=True),
    "threads, bytes, frozen": Way(THREAD_POOL, uvloop=False, protobuf=False, frozen=True),
    "threads, messages parsed": Way(THREAD_POOL, uvloop=False, protobuf=True, frozen=True),
}


def parsed_answer(request: ModelInferRequest) -> ModelInferResponse:
    """Read and write messages, as generated code has it."""
    images = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(tuple(request.inputs[0].shape))
    response = ModelInferResponse(model_name=request.model_name, model_version=request.model_version, id=request.id)
    response.outputs.add(name="logits", datatype="FP32", shape=(len(images), CLASSES))
    response.raw_output_contents.append(bytes(4 * CLASSES * len(images)))
    return response


ANSWER = ModelInferResponse(model_name="bare", raw_output_contents=(bytes(4 * CLASSES),))
ANSWER.outputs.add(name="logits", datatype="FP32", shape=(1, CLASSES))
RAW_ANSWER = ANSWER.SerializeToString()  # as a server has it that knows a request again and keeps its answer's head ready


def handlers_of(way: Way) -> Any:
    """The service's one method, in this way."""
    answer: Any = parsed_answer if way.protobuf else lambda _: RAW_ANSWER
    reads = ModelInferRequest.FromString if way.protobuf else None
    writes = ModelInferResponse.SerializeToString if way.protobuf else None

    async def on_loop(request: Any, _: Any) -> Any:
        return answer(request)

    def on_thread(request: Any, _: Any) -> Any:
        return answer(request)

    behaviour: Any = on_thread if way.server == THREAD_POOL else on_loop
    return grpc.method_handlers_generic_handler(SERVICE, {"ModelInfer": grpc.unary_unary_rpc_method_handler(behaviour, reads, writes)})


async def serve_on_loop(way: Way) -> None:
    """Until killed."""
    server = resolve_name(way.server)(options=LIMIT)
    server.add_generic_rpc_handlers((handlers_of(way),))
    if way.direct:
        server.add_direct_method(f"/{SERVICE}/ModelInfer", lambda message, call: call.answer(RAW_ANSWER))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    announce(way, port)
    await server.wait_for_termination()


def serve_on_threads(way: Way) -> None:
    """Until killed."""
    server = grpc.server(ThreadPoolExecutor(THREADS), options=LIMIT)
    server.add_generic_rpc_handlers((handlers_of(way),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    announce(way, port)
    server.wait_for_termination()


def announce(way: Way, port: int) -> None:
    """Say where it listens, start-up being over."""
    if way.frozen:
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()


def serve(way: Way) -> None:
    """In a process of its own."""
    if way.server == THREAD_POOL:
        serve_on_threads(way)
    elif way.uvloop:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_on_loop(way))
    else:
        asyncio.run(serve_on_loop(way))


@contextmanager
def started(name: str, compiled: Path) -> Iterator[Target]:
    """A bare server; killed at the end."""
    environment = {**os.environ, "PYTHONPATH": str(compiled.absolute())} if WAYS[name].compiled else None
    command = [sys.executable, __file__, "--serve", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line.strip().isdecimal():
                raise BenchError(f"handlers: the server '{name}' did not start")
            yield Target(name, f"127.0.0.1:{int(line)}", process.pid)
        finally:
            process.kill()


@click.command()
@click.option("--in-flight", type=WHOLE, default="1,16,64", help="Calls open at any time.")
@click.option("--duration", type=Seconds(), default="3s", help="Of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Interleaved over all ways.")
@click.option("--allow-disturbed", is_flag=True, help="Count runs in which other programs took the cores, too.")
@click.option("--ways", multiple=True, type=click.Choice(list(WAYS)), help="Which; all of them where none is named.")
@click.option("--compiled", type=click.Path(path_type=Path), default="build/compiled", help="What `make compiled` has made.")
@click.option("--serve", "way", type=click.Choice(list(WAYS)), hidden=True)
@one_line_errors
def main(
    in_flight: tuple[int, ...],
    duration: float,
    repeats: int,
    allow_disturbed: bool,
    ways: tuple[str, ...],
    compiled: Path,
    way: str | None,
) -> None:
    """Compare ways to write a gRPC handler in Python: calls a second and CPU a call, with no network behind it."""
    if way is not None:
        serve(WAYS[way])
        return
    recorder, driver = Recorder(lambda text: click.echo(text, err=True), allow_disturbed), H2load()
    material = Material(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8), None)
    subject = Subject(Target("", ""), Facts("bare"), None, material, (Tensor("image", "UINT8", (-1, 32, 32, 3)),))
    for repeat in range(repeats):
        for name in ways or WAYS:
            with started(name, compiled) as target:
                for count in in_flight:
                    load = Load("bare", arrivals="closed", concurrency=count, seconds=duration)
                    recorder.run(driver, replace(subject, target=target), load, "closed", repeat)
    rows = [
        (
            cell.first.target,
            cell.first.load,
            shown(cell.summary(lambda run: run.achieved_rate), 0),
            shown(cell.summary(lambda run: 1000 * (run.cpu_seconds or 0)), 0),
        )
        for cell in cells(recorder.samples).values()
    ]
    machine = this_machine()
    title = f"one image of 32x32 in, {CLASSES} logits out, nothing computed; {machine.processor}, {machine.cores} cores; {machine.revision}"
    show(text_table(title, ("handler", "load", "calls/s", "CPU µs a call"), rows, arguments()))


if __name__ == "__main__":
    main()
