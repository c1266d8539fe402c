"""Ordinary callers beside each attack: `make hostile` prints their p50 and p99 with and without it, and the server's memory.

A measurement, not a test. On shared cores the attacker's own work is in the figures: the control is the same attacker, as often a second,
against another server, which throws its messages away, while the same callers ask ours.
"""

import asyncio
import contextlib
import itertools
import multiprocessing
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import click
import grpc
import numpy as np
from attacks import ATTACKS, Attack, classify, encoded
from fuzzing import CLASSIFIER, INFERENCE, inference_request
from processes import proportional_bytes
from rich.console import Console
from rich.table import Table
from serving import RunningServer, running_server

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CONTEXT = multiprocessing.get_context("spawn")
TITLE = "Ordinary callers, ms; control: beside the same attacker of another server, or none, whichever is larger"
START_SECONDS = 60.0
CALLERS = 2
PAUSE = 0.01  # between an ordinary caller's calls
PROMISE = 2.0


class Score(NamedTuple):
    """Quantiles of ordinary callers' latencies, in ms."""

    infer_p50: float
    infer_p99: float
    classify_p50: float
    classify_p99: float

    def times(self, other: "Score") -> float:
        """By how much a p99 is above the other's."""
        return max(self.infer_p99 / other.infer_p99, self.classify_p99 / other.classify_p99)

    def worse(self, other: "Score") -> "Score":
        """Of each the larger."""
        return Score(*map(max, self, other))


async def ordinary(url: str, seconds: float) -> dict[str, list[float]]:
    """Latencies, in seconds, of tensors of one row and of small encoded images; a failed call is infinitely late."""
    messages = {"ModelInfer": inference_request().SerializeToString(), "Classify": classify(encoded(64, 48, "PNG"))}
    paths = {"ModelInfer": INFERENCE + "ModelInfer", "Classify": CLASSIFIER + "Classify"}
    latencies: dict[str, list[float]] = {name: [] for name in messages}
    end = time.monotonic() + seconds
    async with grpc.aio.insecure_channel(url) as channel:

        async def caller(name: str) -> None:
            call = channel.unary_unary(paths[name], None, None)
            while time.monotonic() < end:
                started = time.perf_counter()
                try:
                    await call(messages[name], timeout=10.0)
                    latencies[name].append(time.perf_counter() - started)
                except grpc.aio.AioRpcError:
                    latencies[name].append(float("inf"))
                await asyncio.sleep(PAUSE)

        await asyncio.gather(*(caller(name) for name in messages for _ in range(CALLERS)))
    return latencies


def attack(url: str, name: str, interval: float, answered: "Synchronized[int]", ready: "Event") -> None:
    """Send one attack's message for ever, at most every `interval` seconds, and count what is answered."""
    asyncio.run(_attack(url, ATTACKS[name], interval, answered, ready))


async def _attack(url: str, what: Attack, interval: float, answered: "Synchronized[int]", ready: "Event") -> None:
    message = what.message()
    turns = itertools.count()
    began = time.monotonic()
    async with grpc.aio.insecure_channel(url, OPTIONS) as channel:
        call = channel.unary_unary(what.method, None, None)

        async def send() -> None:
            while True:
                await asyncio.sleep(max(0.0, began + next(turns) * interval - time.monotonic()))
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(message, timeout=what.seconds)
                answered.value += 1

        ready.set()
        await asyncio.gather(*(send() for _ in range(what.at_once)))


def discard(port: "Synchronized[int]", ready: "Event") -> None:
    """A server that throws every message away."""
    asyncio.run(_discard(port, ready))


async def _discard(port: "Synchronized[int]", ready: "Event") -> None:
    async def refuse(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "thrown away")

    class Everything(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs only
        def service(self, _: object) -> "grpc.RpcMethodHandler[bytes, bytes]":
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((Everything(),))
    port.value = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready.set()
    await server.wait_for_termination()


@contextlib.contextmanager
def process(target: Callable[..., None], *arguments: object) -> Iterator[None]:
    """Run `target` with these arguments and an event that says that it has begun, in a process of its own."""
    ready = CONTEXT.Event()
    running = CONTEXT.Process(target=target, args=(*arguments, ready), daemon=True)
    running.start()
    if not ready.wait(START_SECONDS):
        raise RuntimeError(f"{target.__name__} did not begin")
    try:
        yield
    finally:
        running.kill()
        running.join()


def beside(server: RunningServer, name: str, seconds: float) -> tuple[Score, int, float]:
    """Ordinary callers beside an attack, the most memory meanwhile, and how often the attack was answered a second."""
    answered = CONTEXT.Value("q", 0)
    with process(attack, server.url, name, 0.0, answered):
        latencies, held = asyncio.run(watched(server, seconds))
        return score(latencies), held, answered.value / seconds


def control(server: RunningServer, name: str, seconds: float, rate: float) -> Score:
    """Ordinary callers of ours while the attacker attacks another server, which answers it about as often."""
    port, answered = CONTEXT.Value("q", 0), CONTEXT.Value("q", 0)
    with process(discard, port), process(attack, f"127.0.0.1:{port.value}", name, 1 / max(rate, 1 / seconds), answered):
        return score(asyncio.run(ordinary(server.url, seconds)))


async def watched(server: RunningServer, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Latencies of ordinary callers, and the most memory meanwhile."""
    calls = asyncio.ensure_future(ordinary(server.url, seconds))
    most = 0
    while not calls.done():
        most = max(most, await asyncio.to_thread(proportional_bytes, server.process.pid))
        await asyncio.wait((calls,), timeout=0.2)
    return calls.result(), most


def milliseconds(latencies: list[float], quantile: float) -> float:
    """A quantile, by the nearest rank."""
    return 1e3 * float(np.quantile(latencies, quantile, method="inverted_cdf"))


def score(latencies: dict[str, list[float]]) -> Score:
    return Score(*(milliseconds(latencies[name], quantile) for name in ("ModelInfer", "Classify") for quantile in (0.5, 0.99)))


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="With resnet20.")
@click.option("--seconds", default=10.0, show_default=True, help="Of each measurement.")
@click.option("--only", default="", help="Attacks whose name holds this.")
@click.option("--server-options", default="", help="More options of the server.")
def main(repository: Path, seconds: float, only: str, server_options: str) -> None:
    """Print a table; exit with status 1 where an attack more than doubles an ordinary caller's p99, less what its attacker costs."""
    table = Table("attack", "a second", "ModelInfer p50", "p99", "Classify p50", "p99", "control p99", "times", "memory", title=TITLE)
    worst = 0.0
    arguments = ("--models", "resnet20", *shlex.split(server_options))
    with tempfile.TemporaryDirectory() as folder, running_server(repository, Path(folder) / "log", *arguments) as server:
        asyncio.run(ordinary(server.url, 2.0))
        latencies, held = asyncio.run(watched(server, seconds))
        base = score(latencies)
        _row(table, "none", 0.0, base, base, held)
        for name in ATTACKS:
            if only not in name:
                continue
            found, held, rate = beside(server, name, seconds)
            undisturbed = base.worse(control(server, name, seconds, rate))
            _row(table, name, rate, found, undisturbed, held)
            worst = max(worst, found.times(undisturbed))
    Console(width=140).print(table)
    click.echo(f"the worst p99 is {worst:.1f} times that of the control; promised: {PROMISE:g}")
    sys.exit(worst > PROMISE)


def _row(table: Table, name: str, rate: float, found: Score, undisturbed: Score, held: int) -> None:
    click.echo(f"{name}: p99 {found.infer_p99:.1f}, {found.classify_p99:.1f} ms", err=True)
    both = f"{undisturbed.infer_p99:.1f}, {undisturbed.classify_p99:.1f}"
    table.add_row(name, f"{rate:.1f}", *(f"{value:.1f}" for value in found), both, f"{found.times(undisturbed):.1f}", f"{held >> 20} MiB")


if __name__ == "__main__":
    main()
