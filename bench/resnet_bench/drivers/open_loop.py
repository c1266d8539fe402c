"""One generator process: sends calls at their intended times, or keeps some in flight, and counts what comes back.

Calls go out as bytes serialised beforehand through grpc.aio's untyped method. The event loop waits with select(2), whose timeout
counts in microseconds: epoll and uvloop count in milliseconds and would send every call half a millisecond late.
"""

import asyncio
import itertools
import os
import selectors
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from hdrh.histogram import HdrHistogram
from numpy.typing import NDArray

from resnet_bench.access import PLAIN, Access
from resnet_bench.drivers.api import Load
from resnet_bench.errors import BenchError
from resnet_bench.requests import METHOD
from resnet_bench.sample import OK, UNANSWERED

OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),  # each channel has a connection of its own
    ("grpc.enable_retries", 0),
]
CONNECT_SECONDS = 10.0
KEEP_EVERY, KEEP_MOST = 4, 1000
HIGHEST_US, DIGITS = 600_000_000, 3


def new_histogram() -> HdrHistogram:
    """Whole microseconds from 1 us to 10 minutes, exact to three digits."""
    return HdrHistogram(1, HIGHEST_US, DIGITS)


def record(histogram: HdrHistogram, seconds: float) -> None:
    """Count a latency; less than 1 us counts as 1 us."""
    histogram.record_value(min(HIGHEST_US, max(1, round(1e6 * seconds))))


@dataclass
class Tally:
    """What one process saw of the calls that count: those meant to be sent in the counted time (closed loop: answered in it).

    Fields as in Sample; histograms are encoded: `latency` of OK answers from the intended time, `lag` from the intended time to
    sending. `kept` holds some answers with the index of their request, to be checked afterwards.
    """

    sent: int = 0
    answered: int = 0
    in_time: int = 0
    service_in_time: int = 0
    late: int = 0
    slip: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    first_error: str = ""
    latency: bytes = b""
    lag: bytes = b""
    cpu_seconds: float = 0.0
    niceness: int = 0
    wall_seconds: float = 1.0
    kept: list[tuple[int, bytes]] = field(default_factory=list)


def schedule(load: Load, index: int = 0, count: int = 1) -> NDArray[np.float64]:
    """Intended send times in seconds from the start, ascending, for generator `index` of `count`; `load` is its part.

    Poisson: independent exponential gaps, drawn from `load.seed`, so that every model meets the same bursts. Constant: equal gaps,
    the generators in turn.
    """
    total = load.warm_up + load.seconds
    gap = 1 / load.rate
    if load.arrivals == "constant":
        return np.arange(gap * index / count, total, gap)
    random = np.random.default_rng(load.seed)
    times = np.cumsum(random.exponential(gap, size=int(total / gap + 6 * (total / gap) ** 0.5 + 10)))
    return times[times < total]


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to microseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def connected(url: str, count: int, access: Access = PLAIN) -> list[grpc.aio.Channel]:
    """So many channels that are ready; raises BenchError where nobody answers."""
    channels = [access.aio_channel(url, OPTIONS) for _ in range(count)]
    try:
        await asyncio.wait_for(asyncio.gather(*(channel.channel_ready() for channel in channels)), CONNECT_SECONDS)
    except TimeoutError:
        for channel in channels:
            await channel.close(None)
        raise BenchError(f"url: no server answers at {url}") from None
    return channels


class Generator:
    """Drives one load; all times are of the monotonic clock, which the processes of a machine share."""

    def __init__(
        self, load: Load, data: tuple[bytes, ...], channels: Sequence[grpc.aio.Channel], index: int, count: int, access: Access = PLAIN
    ) -> None:
        self._load, self._data, self._metadata = load, data, access.metadata
        self._requests = itertools.cycle(range(len(data)))
        self._times = schedule(load, index, count).tolist() if load.open_loop else []
        methods = [channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None) for channel in channels]
        self._methods = itertools.cycle(methods)
        self._loop = asyncio.get_running_loop()
        self._latency, self._lag = new_histogram(), new_histogram()
        self._tally = Tally()
        self._calls: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._from = self._until = self._start = 0.0

    async def run(self, start: float) -> Tally:
        """Begin at time `start`, and return once every call is answered or given up."""
        load, tally = self._load, self._tally
        self._start, self._from = start, start + load.warm_up
        self._until = self._from + load.seconds
        await asyncio.sleep(max(0.0, start - time.monotonic()))
        cpu, wall = time.process_time(), time.monotonic()
        await (self._open_loop() if load.open_loop else self._closed_loop())
        tally.cpu_seconds, tally.wall_seconds = time.process_time() - cpu, time.monotonic() - wall
        await self._give_up()
        tally.latency, tally.lag = bytes(self._latency.encode()), bytes(self._lag.encode())
        tally.niceness = os.getpriority(os.PRIO_PROCESS, 0)
        return tally

    async def _open_loop(self) -> None:
        waiting = iter(self._times)
        sent = self._loop.create_future()
        pending = next(waiting, None)

        def send_due() -> None:
            nonlocal pending
            while pending is not None and self._start + pending <= time.monotonic():
                self._spawn(self._timed(self._start + pending))
                pending = next(waiting, None)
            if pending is None:
                sent.set_result(None)
            else:
                self._loop.call_at(self._start + pending, send_due)

        send_due()
        await sent
        await asyncio.sleep(max(0.0, self._until - time.monotonic()))

    async def _closed_loop(self) -> None:
        for _ in range(self._load.concurrency):
            self._spawn(self._endless())
        await asyncio.sleep(self._until - time.monotonic())

    async def _give_up(self) -> None:
        """Wait for the answers; a closed loop's last ones do not count, but one that never comes is a call that went unanswered."""
        if self._calls:
            await asyncio.wait(self._calls, timeout=self._load.grace)
        left = list(self._calls)
        if not self._load.open_loop:
            self._tally.sent += len(left)
            self._tally.outcomes[UNANSWERED] += len(left)
        for call in left:
            call.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        self._tally.outcomes += Counter()  # drops what is zero
        if self._failure is not None:
            raise self._failure

    def _spawn(self, call: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: "asyncio.Task[None]") -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error

    async def _timed(self, intended: float) -> None:
        """One call of an open loop; its latency counts from `intended`, whenever it really left."""
        lag = time.monotonic() - intended
        counts = intended >= self._from
        if counts:
            self._tally.sent += 1
            self._tally.late += lag > self._load.late_after
            self._tally.slip = lag
            record(self._lag, lag)
        try:
            await self._call(intended, counts)
        except asyncio.CancelledError:
            self._tally.outcomes[UNANSWERED] += counts
            raise

    async def _endless(self) -> None:
        """One of the calls in flight of a closed loop; an error is answered by the next call, as by a success."""
        while time.monotonic() < self._until:
            await self._call(time.monotonic(), None)

    async def _call(self, intended: float, counts: bool | None) -> None:
        """Send, wait and count; `counts` None: if the answer comes in the counted time."""
        index = next(self._requests)
        status, answer = OK, b""
        left = time.monotonic()
        try:
            answer = await next(self._methods)(self._data[index], timeout=self._load.deadline, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            self._tally.first_error = self._tally.first_error or f"{status}: {error.details()}"
        ended = time.monotonic()
        inside = self._from <= ended <= self._until
        if counts is None:
            counts = inside
            self._tally.sent += inside
        self._tally.answered += inside and status == OK
        if counts:
            self._count(status, ended - intended, ended - left, index, answer)

    def _count(self, status: str, latency: float, since_sent: float, index: int, answer: bytes) -> None:
        tally = self._tally
        tally.outcomes[status] += 1
        if status != OK:
            return
        tally.in_time += latency <= self._load.slo
        tally.service_in_time += since_sent <= self._load.slo
        record(self._latency, latency)
        if tally.outcomes[OK] % KEEP_EVERY == 1 and len(tally.kept) < KEEP_MOST:
            tally.kept.append((index, answer))
