"""Ordinary callers beside each attack: `make hostile` prints their p50 and p99 with and without it, and the server's memory.

A measurement, not a test: on shared cores the attacker's own work is in the figures, too.
"""

import asyncio
import contextlib
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import grpc
import numpy as np
from attacks import ATTACKS, Attack, classify, encoded
from fuzzing import CLASSIFIER, INFERENCE, inference_request
from processes import descendants
from rich.console import Console
from rich.table import Table
from serving import RunningServer, running_server

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
CALLERS = 2
PAUSE = 0.01  # between an ordinary caller's calls
PROMISE = 2.0


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


def attack(url: str, name: str, ready: "multiprocessing.synchronize.Event") -> None:
    """Send one attack's message for ever."""
    asyncio.run(_attack(url, ATTACKS[name], ready))


async def _attack(url: str, what: Attack, ready: "multiprocessing.synchronize.Event") -> None:
    message = what.message()
    async with grpc.aio.insecure_channel(url, OPTIONS) as channel:
        call = channel.unary_unary(what.method, None, None)

        async def send() -> None:
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await call(message, timeout=what.seconds)

        ready.set()
        await asyncio.gather(*(send() for _ in range(what.at_once)))


@contextlib.contextmanager
def attacked(url: str, name: str) -> Iterator[None]:
    """One attacker, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=attack, args=(url, name, ready), daemon=True)
    process.start()
    ready.wait()
    try:
        yield
    finally:
        process.kill()
        process.join()


def memory(server: RunningServer) -> int:
    """Proportional bytes of the server and of all its processes."""
    total = 0
    for pid in (server.process.pid, *descendants(server.process.pid)):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


async def watched(server: RunningServer, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Latencies of ordinary callers, and the most memory meanwhile."""
    calls = asyncio.ensure_future(ordinary(server.url, seconds))
    most = 0
    while not calls.done():
        most = max(most, await asyncio.to_thread(memory, server))
        await asyncio.wait((calls,), timeout=0.2)
    return calls.result(), most


def milliseconds(latencies: list[float], quantile: float) -> float:
    """A quantile, by the nearest rank."""
    return 1e3 * float(np.quantile(latencies, quantile, method="inverted_cdf"))


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="With resnet20.")
@click.option("--seconds", default=10.0, show_default=True, help="Of each measurement.")
@click.option("--only", default="", help="Attacks whose name holds this.")
def main(repository: Path, seconds: float, only: str) -> None:
    """Print a table; exit with status 1 where an attack more than doubles an ordinary caller's p99."""
    table = Table("attack", "ModelInfer p50", "p99", "Classify p50", "p99", "memory", title="Ordinary callers, ms")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder, running_server(repository, Path(folder) / "log") as server:
        asyncio.run(ordinary(server.url, 2.0))
        base, held = asyncio.run(watched(server, seconds))
        _row(table, "none", base, held)
        for name in ATTACKS:
            if only not in name:
                continue
            with attacked(server.url, name):
                latencies, held = asyncio.run(watched(server, seconds))
            _row(table, name, latencies, held)
            worst = max(worst, *(milliseconds(latencies[key], 0.99) / milliseconds(base[key], 0.99) for key in base))
    Console(width=120).print(table)
    click.echo(f"the worst p99 is {worst:.1f} times that without an attack; promised: {PROMISE:g}")
    sys.exit(worst > PROMISE)


def _row(table: Table, name: str, latencies: dict[str, list[float]], held: int) -> None:
    figures = [f"{milliseconds(latencies[key], quantile):.1f}" for key in latencies for quantile in (0.5, 0.99)]
    table.add_row(name, *figures, f"{held >> 20} MiB")


if __name__ == "__main__":
    main()
