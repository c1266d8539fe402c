"""The process a generator lives in: takes orders from a pipe until it is closed."""

import asyncio
import contextlib
import gc
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

from resnet_bench.errors import BenchError
from resnet_bench.load.generator import Generator, connected, new_loop
from resnet_bench.load.sample import Tally
from resnet_bench.load.spec import Load

READY = "ready"
NICENESS = -10


@dataclass(frozen=True)
class Order:
    """A load's part for generator `index` of `count`. `data` is None where the requests of that key were sent before."""

    load: Load
    key: str
    data: tuple[bytes, ...] | None
    index: int
    count: int


def obey(pipe: "Connection[object, object]") -> None:
    """Run order after order: answer READY, take the start time, answer a Tally or a BenchError."""
    _go_first()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent saves what was measured
    gc.freeze()  # what was imported lives as long as the process: a collection in the middle of a run need not walk it
    known: tuple[str, tuple[bytes, ...]] = ("", ())
    while True:
        try:
            order = pipe.recv()
        except EOFError:
            return
        assert isinstance(order, Order)  # noqa: S101  # the parent sends nothing else
        if order.data is not None:
            known = (order.key, order.data)
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                pipe.send(runner.run(_drive(order, known[1], pipe)))
        except BenchError as error:
            pipe.send(error)


async def _drive(order: Order, data: tuple[bytes, ...], pipe: "Connection[object, object]") -> Tally:
    channel = await connected(order.load.url)
    try:
        generator = Generator(order.load, data, channel, order.index, order.count)
        pipe.send(READY)
        start = await asyncio.to_thread(pipe.recv)
        assert isinstance(start, float)  # noqa: S101  # the parent sends nothing else
        tally = await generator.run(start)
        tally.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        return tally
    finally:
        await channel.close(None)


def _go_first() -> None:
    """Ask to be scheduled before the server: on a machine of its own, a client would not wait for the server's cores."""
    with contextlib.suppress(OSError, AttributeError):  # only root may, and not on Windows
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def soon() -> float:
    """A start time that every generator can keep."""
    return time.monotonic() + 0.05
