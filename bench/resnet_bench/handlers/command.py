"""`resnet-bench handlers`."""

import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
from resnet_proto.open_inference_pb2 import ModelInferRequest
from rich.console import Console
from rich.table import Table

from resnet_bench.errors import BenchError
from resnet_bench.h2load import Drive, measure, require_h2load, warm_up
from resnet_bench.handlers.bare import ANSWER, parsed_answer
from resnet_bench.handlers.ways import CLASSES, WAYS, Way
from resnet_bench.limit.options import one_line_errors, with_progress
from resnet_bench.limit.processes import cpu_between, usage_of
from resnet_bench.options import Numbers
from resnet_bench.schema import Spread

WARM_UP_SECONDS = 0.5
PREFIX_BYTES = 5  # of a gRPC message: compressed or not, and its length


@click.command()
@click.option("--in-flight", type=Numbers(), default="1,16,64", help="Calls open at any time.")
@click.option("--duration", type=click.FloatRange(0.1), default=3.0, help="Seconds of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="Interleaved over all ways.")
def handlers(in_flight: tuple[int, ...], duration: float, repeats: int) -> None:
    """Compare ways to write a gRPC handler in Python: calls a second and CPU a call, with no network behind it."""
    with one_line_errors():
        require_h2load()
        seen: dict[tuple[str, int], list[tuple[float, float]]] = {}

        def run(on_step: Callable[[str], None]) -> None:
            for repeat in range(repeats):
                for name in WAYS:
                    on_step(f"{name} {repeat + 1}/{repeats}")
                    for count in in_flight:
                        seen.setdefault((name, count), []).append(measure_way(name, count, duration))

        complete = with_progress(run, repeats * len(WAYS))
    Console(width=None if sys.stdout.isatty() else 150, markup=False, highlight=False).print(table_of(seen, in_flight))
    if not complete:
        sys.exit(128 + signal.SIGINT)


def measure_way(name: str, in_flight: int, seconds: float) -> tuple[float, float]:
    """Calls a second, and the server's CPU microseconds a call."""
    with started(name) as (process, port), tempfile.TemporaryDirectory() as folder:
        drive = Drive(f"http://127.0.0.1:{port}/inference.GRPCInferenceService/ModelInfer", written_call(Path(folder)), in_flight)
        warm_up(drive, WARM_UP_SECONDS)
        before = usage_of(process.pid)
        sample = measure(drive, PREFIX_BYTES + answer_bytes(WAYS[name]), seconds)
        cpu = sum(cpu_between(before, usage_of(process.pid)).values())
        return sample.rate, 1e6 * cpu / sample.calls


def answer_bytes(way: Way) -> int:
    """Of the message that a server answers with."""
    return len(parsed_answer(request_of_one()).SerializeToString()) if way.protobuf else len(ANSWER)


def request_of_one() -> ModelInferRequest:
    """A request with one image of 32x32."""
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    request = ModelInferRequest(model_name="bare")
    request.inputs.add(name="image", datatype="UINT8", shape=image.shape)
    request.raw_input_contents.append(image.tobytes())
    return request


def written_call(folder: Path) -> Path:
    """The request as gRPC frames it, in a file."""
    message = request_of_one().SerializeToString()
    path = folder / "call"
    path.write_bytes(b"\0" + struct.pack(">I", len(message)) + message)
    return path


@contextmanager
def started(name: str) -> "Iterator[tuple[subprocess.Popen[str], int]]":
    """A bare server and its port; killed at the end."""
    command = [sys.executable, "-m", "resnet_bench.handlers.bare", name]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None  # noqa: S101  # a pipe was asked for
            line = process.stdout.readline()
            if not line.strip().isdecimal():
                raise BenchError(f"handlers: the server '{name}' did not start")
            yield process, int(line)
        finally:
            process.kill()


def table_of(seen: dict[tuple[str, int], list[tuple[float, float]]], in_flight: tuple[int, ...]) -> Table:
    """A row for each way: calls a second and CPU a call, with half the range of the repeats."""
    table = Table(title=f"one image of 32x32 in, {CLASSES} logits out, nothing computed; h2load on the same cores", title_justify="left")
    table.add_column("handler")
    for count in in_flight:
        table.add_column(f"{count} in flight, calls/s", justify="right")
        table.add_column("CPU µs", justify="right")
    for name in WAYS:
        row = [name]
        for count in in_flight:
            samples = seen.get((name, count), [])
            row += [shown([rate for rate, _ in samples]), shown([cpu for _, cpu in samples])]
        table.add_row(*row)
    return table


def shown(values: list[float]) -> str:
    """The median and half the range; a dash for nothing."""
    if not values:
        return "-"
    spread = Spread.of(values)
    return f"{spread.median:,.0f} ±{(spread.high - spread.low) / 2:,.0f}"
