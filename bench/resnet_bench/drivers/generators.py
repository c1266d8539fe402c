"""The generator processes, as one driver: open loops, and closed ones from Python."""

import asyncio
import contextlib
import gc
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from resnet_bench.access import PLAIN, Access
from resnet_bench.drivers.api import Load, Observer, sample_of
from resnet_bench.drivers.open_loop import Generator, Tally, connected, new_histogram, new_loop
from resnet_bench.errors import BenchError
from resnet_bench.requests import Requests, logits_of
from resnet_bench.sample import OK, Sample, percentiles
from resnet_bench.target import Target

T = TypeVar("T")

START_SECONDS = 60.0
READY = "ready"
NICENESS = -10
MAX_LATE = 0.01  # of the calls may be sent late
MAX_SLIP = 0.01  # of the run's length may the schedule have slipped at its end
MAX_CPU = 0.9  # of a core: above it, the generator measures itself
MIN_AGREEMENT = 0.95  # of what the reference says; INT8 may differ on 1 % of images
CONFIGURATION = ("INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "UNAUTHENTICATED", "PERMISSION_DENIED")


@dataclass(frozen=True)
class Order:
    """A load's part for generator `index` of `count`. `data` is None where the requests of that key were sent before."""

    url: str
    load: Load
    key: str
    data: tuple[bytes, ...] | None
    index: int
    count: int
    access: Access = PLAIN


def obey(pipe: "Connection[object, object]", niceness: int) -> None:
    """In the process: run order after order: answer READY, take the start time, answer a Tally or a BenchError."""
    with contextlib.suppress(OSError, AttributeError):  # only root may go first, as a client on a machine of its own would
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
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
    channels = await connected(order.url, order.load.connections, order.access)
    try:
        generator = Generator(order.load, data, channels, order.index, order.count, order.access)
        pipe.send(READY)
        start = await asyncio.to_thread(pipe.recv)
        assert isinstance(start, float)  # noqa: S101  # the parent sends nothing else
        return await generator.run(start)
    finally:
        for channel in channels:
            await channel.close(None)


class Generators:
    """Starts its processes on entering and ends them on leaving; they are kept from run to run."""

    name = "grpc.aio"

    def __init__(self, count: int = 1, niceness: int = NICENESS) -> None:
        self._count, self._niceness = count, niceness
        self._pipes: list[Connection[object, object]] = []
        self._processes: list[multiprocessing.process.BaseProcess] = []
        self._keys: list[str] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(target=obey, args=(theirs, self._niceness), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
            self._keys.append("")
        return self

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()  # it may be in the middle of a run, and holds nothing that could be lost
            process.join()
        self._pipes, self._processes, self._keys = [], [], []

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """As every driver. After an error the processes are new: one of them may wait for a start that never comes."""
        try:
            tallies = self._tallies(target, requests, load, observer)
        except BenchError:
            self.__exit__()
            self.__enter__()
            raise
        sample = merged(load, tallies)
        check_service(sample, requests, [kept for tally in tallies for kept in tally.kept])
        return replace(sample, void=void_reason(sample, load))

    def _tallies(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sequence[Tally]:
        key = f"{target.url} {requests.key}"
        for index, pipe in enumerate(self._pipes):
            data = None if self._keys[index] == key else requests.data
            pipe.send(Order(target.url, load.part(index, self._count), key, data, index, self._count, target.access))
            self._keys[index] = key
        self._take(str, START_SECONDS)
        start = time.monotonic() + 0.05  # soon, but late enough for all
        for pipe in self._pipes:
            pipe.send(start)
        if not self._spoke_until(start + load.warm_up):
            observer.begin()
            self._spoke_until(start + load.warm_up + load.seconds)
            observer.end()
        return self._take(Tally, load.warm_up + load.seconds + load.grace + START_SECONDS)

    def _take(self, kind: type[T], seconds: float) -> Sequence[T]:
        until = time.monotonic() + seconds
        return [self._receive(pipe, kind, until) for pipe in self._pipes]

    def _receive(self, pipe: "Connection[object, object]", kind: type[T], until: float) -> T:
        try:
            message = pipe.recv() if pipe.poll(max(0.0, until - time.monotonic())) else None
        except (EOFError, OSError):
            message = None
        if isinstance(message, BenchError):
            raise message
        if not isinstance(message, kind):
            raise BenchError("generator: its process ended or hung")
        return message

    def _spoke_until(self, until: float) -> bool:
        """Sleep until then, or until a generator speaks: before the end that means that it has failed."""
        return bool(wait(self._pipes, max(0.0, until - time.monotonic())))


def merged(load: Load, tallies: Sequence[Tally]) -> Sample:
    """The generators' tallies as one sample."""
    latency, lag = new_histogram(), new_histogram()
    for tally in tallies:
        latency.decode_and_add(tally.latency)
        lag.decode_and_add(tally.lag)
    outcomes = sum((tally.outcomes for tally in tallies), Counter[str]())
    found = {f"p{p:g}": float(latency.get_value_at_percentile(p)) / 1e3 for p in (50, 90, 99, 99.9)}
    found |= {"mean": float(latency.get_mean_value()) / 1e3, "max": float(latency.get_max_value()) / 1e3}
    return replace(
        sample_of(load, Generators.name),
        calls=sum(tally.sent for tally in tallies),
        outcomes=dict(outcomes),
        answered=sum(tally.answered for tally in tallies),
        in_time=sum(tally.in_time for tally in tallies),
        service_in_time=sum(tally.service_in_time for tally in tallies),
        latency_ms=percentiles(found, outcomes[OK]) if outcomes[OK] else {},
        lag_p99_ms=float(lag.get_value_at_percentile(99)) / 1e3 if load.open_loop else 0.0,
        late=sum(tally.late for tally in tallies),
        slip=max(tally.slip for tally in tallies),
        generator_cpu=max(tally.cpu_seconds / tally.wall_seconds for tally in tallies),
        niceness=max(tally.niceness for tally in tallies),
        first_error=next((tally.first_error for tally in tallies if tally.first_error), ""),
    )


def void_reason(sample: Sample, load: Load) -> str:
    """Why a run does not count; empty if it does.

    Void is a run in which more than 1 % of the calls were sent late (later than `Load.late_after`), whose schedule had slipped by
    more than 1 % of its length (and of what counts as late) at its end, or in which a generator process used more than 0.9 of a core.
    """
    if sample.generator_cpu > MAX_CPU:
        return f"the generator ran out of CPU: it used {sample.generator_cpu:.2f} of a core; try --generators"
    if not load.open_loop:
        return ""
    if sample.slip > max(MAX_SLIP * load.seconds, load.late_after):
        return f"the generator lagged: it was {1e3 * sample.slip:.0f} ms behind its schedule at the end; try --generators"
    if sample.late > MAX_LATE * sample.calls:
        share, after = 100 * sample.late / sample.calls, 1e3 * load.late_after
        return f"the generator lagged: it sent {share:.1f} % of the calls more than {after:g} ms late"
    return ""


def check_service(sample: Sample, requests: Requests, kept: Sequence[tuple[int, bytes]]) -> None:
    """Raise BenchError where the server refuses such calls at all, answers none, or answers wrongly."""
    name = sample.model
    if any(sample.outcomes.get(status) for status in CONFIGURATION):
        raise BenchError(f"{name}: the server refuses the call: {sample.first_error}")
    if not sample.outcomes.get(OK) and sample.first_error.startswith("UNAVAILABLE"):
        raise BenchError(f"{name}: the server became unreachable: {sample.first_error}")
    if requests.classes is None:
        return
    agreeing, checked = agreement(name, kept, requests.classes)
    if checked and agreeing < MIN_AGREEMENT * checked:
        raise BenchError(f"{name}: wrong answers: only {agreeing} of {checked} agree with the reference")


def agreement(name: str, kept: Sequence[tuple[int, bytes]], classes: Sequence[NDArray[np.int64]]) -> tuple[int, int]:
    """Rows of the kept answers whose top-1 is the reference's, and all of them; raises BenchError for missing rows."""
    agreeing = checked = 0
    for index, answer in kept:
        found = logits_of(answer).argmax(1)
        if len(found) != len(classes[index]):
            raise BenchError(f"{name}: {len(found)} rows were answered for {len(classes[index])}")
        agreeing += int((found == classes[index]).sum())
        checked += len(found)
    return agreeing, checked
