"""One generator: sends calls at their intended times, or keeps some in flight, and counts what comes back.

Calls go out as bytes serialised beforehand through grpc.aio's untyped method. The event loop waits with select(2), whose timeout
counts in microseconds: epoll and uvloop count in milliseconds and would send every call half a millisecond late.
"""

import asyncio
import itertools
import selectors
import time
from collections.abc import Coroutine
from typing import Any

import grpc

from resnet_bench.errors import BenchError
from resnet_bench.load.arrivals import schedule
from resnet_bench.load.histogram import encoded, new_histogram, record
from resnet_bench.load.sample import OK, UNANSWERED, Tally
from resnet_bench.load.spec import Load

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
]
CONNECT_SECONDS = 5.0
KEEP_EVERY, KEEP_MOST = 4, 1000


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to microseconds."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def connected(url: str) -> grpc.aio.Channel:
    """A channel that is ready; raises BenchError where nobody answers."""
    channel = grpc.aio.insecure_channel(url, options=OPTIONS)
    try:
        await asyncio.wait_for(channel.channel_ready(), CONNECT_SECONDS)
    except TimeoutError:
        await channel.close(None)
        raise BenchError(f"url: no server answers at {url}") from None
    return channel


class Generator:
    """Drives one load through one channel; all times are of the monotonic clock, which the processes of a machine share."""

    def __init__(self, load: Load, data: tuple[bytes, ...], channel: grpc.aio.Channel, index: int, count: int) -> None:
        self._load = load
        self._data = data
        self._requests = itertools.cycle(range(len(data)))
        self._times = [] if load.arrivals == "closed" else schedule(load, index, count).tolist()
        self._send = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
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
        if load.arrivals == "closed":
            await self._closed_loop()
        else:
            await self._open_loop()
        tally.cpu_seconds, tally.wall_seconds = time.process_time() - cpu, time.monotonic() - wall
        await self._give_up()
        tally.latency, tally.lag = encoded(self._latency), encoded(self._lag)
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
        """Wait for the answers of an open loop; what a closed loop still has in flight does not count."""
        if self._calls and self._load.arrivals != "closed":
            await asyncio.wait(self._calls, timeout=self._load.grace)
        left = list(self._calls)
        for call in left:
            call.cancel()
        await asyncio.gather(*left, return_exceptions=True)
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
            answer = await self._send(self._data[index], timeout=self._load.deadline)
        except grpc.aio.AioRpcError as error:
            status = error.code().name
            self._tally.first_error = self._tally.first_error or f"{status}: {error.details()}"
        ended = time.monotonic()
        inside = self._from <= ended <= self._until
        if counts is None:
            counts = inside
            self._tally.sent += inside
        if inside and status == OK:
            self._tally.answered += 1
        if counts:
            self._count(status, ended - intended, ended - left, index, answer)

    def _count(self, status: str, latency: float, since_sent: float, index: int, answer: bytes) -> None:
        tally = self._tally
        tally.outcomes[status] += 1
        if status != OK:
            return
        tally.on_time += latency <= self._load.slo
        tally.soon_enough += since_sent <= self._load.slo
        record(self._latency, latency)
        if tally.outcomes[OK] % KEEP_EVERY == 1 and len(tally.kept) < KEEP_MOST:
            tally.kept.append((index, answer))
