"""Dynamic batching: one queue of rows, and a batch whenever an engine is free.

Work-conserving: for a batch time L(b) = a + c*b, taking what is queued the moment an engine is idle
maximises throughput, and no timer is needed. Knows no network, no ONNX Runtime and no Prometheus; the
clock, the timers and the runners are injected.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_server.errors import DeadlineError, EngineError, InvalidRequestError, ModelUnavailableError, QueueFullError, ServingError

Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


class TimerHandle(Protocol):
    """What `Clock.call_at` returns."""

    def cancel(self) -> None:
        """Do not call."""


class Clock(Protocol):
    """Time in seconds, and callbacks at a time; an asyncio event loop is one."""

    def time(self) -> float:
        """Now."""

    def call_at(self, when: float, callback: Callable[[], object], /) -> TimerHandle:
        """Call `callback` at time `when`."""


class Runner(Protocol):
    """Computes one batch at a time."""

    async def run(self, parts: Sequence[Images], rows: int) -> Logits:
        """Compute UINT8 [rows, h, w, 3], given in parts, to FP32 [rows, classes]; raise ServingError if it cannot."""


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran: rows, tickets, and seconds of computing."""

    rows: int
    tickets: int
    compute_seconds: float


@dataclass(frozen=True)
class Answer:
    """`logits` FP32 [rows, classes] of one ticket, and how it came to be."""

    logits: Logits
    batch_rows: int
    queue_seconds: float
    compute_seconds: float


class Ticket:
    """Rows waiting for an answer. It resolves once; whoever waits may leave at any time."""

    __slots__ = ("enqueued_at", "future", "queued", "rows", "timer")

    def __init__(self, rows: Images, enqueued_at: float, future: "asyncio.Future[Answer]") -> None:
        self.rows = rows
        self.enqueued_at = enqueued_at
        self.future = future
        self.queued = True
        self.timer: TimerHandle | None = None

    def fail(self, error: ServingError) -> None:
        """Resolve with an error, unless resolved or abandoned."""
        if not self.future.done():
            self.future.set_exception(error)


class Batcher:
    """Owns the queue of one model and the tasks that feed its runners."""

    def __init__(
        self,
        runners: Sequence[Runner],
        *,
        max_batch: int,
        max_queue_rows: int,
        clock: Clock,
        on_batch: Callable[[BatchReport], None] = lambda _: None,
        on_wait: Callable[[float], None] = lambda _: None,
        on_depth: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.max_batch = max_batch
        self.max_queue_rows = max_queue_rows
        self._clock = clock
        self._on_batch = on_batch
        self._on_wait = on_wait
        self._on_depth = on_depth
        self._queue: deque[Ticket] = deque()
        self._queued_rows = 0
        self._abandoned = 0
        self._running = 0
        self._draining = False
        self._idle: deque[asyncio.Future[None]] = deque()
        self._drained = asyncio.Event()
        self._tasks = [asyncio.create_task(self._feed(runner)) for runner in runners]

    @property
    def queued_rows(self) -> int:
        """Rows that wait, without the abandoned ones."""
        return self._queued_rows

    async def submit(self, rows: Images, deadline: float | None = None) -> Answer:
        """Compute UINT8 [n, h, w, 3]; `deadline` is a time of the clock.

        Raises InvalidRequestError for 0 rows or more than `max_batch`, QueueFullError, ModelUnavailableError while
        draining, DeadlineError at the deadline if the rows have not begun to run, EngineError if the engine fails.
        """
        ticket = self._admit(rows, deadline)
        try:
            return await ticket.future
        finally:
            self._leave(ticket)

    async def drain(self) -> None:
        """Take nothing new, finish what is queued and running, and stop."""
        self._draining = True
        if self._queued_rows or self._running:
            await self._drained.wait()
        await self.close()

    async def close(self) -> None:
        """Stop now; what still waits is answered UNAVAILABLE."""
        self._draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for ticket in self._queue:
            ticket.fail(ModelUnavailableError("the server is shutting down"))

    def _admit(self, rows: Images, deadline: float | None) -> Ticket:
        now = self._clock.time()
        self._check(len(rows), deadline, now)
        ticket = Ticket(rows, now, asyncio.get_running_loop().create_future())
        if deadline is not None:
            ticket.timer = self._clock.call_at(deadline, lambda: self._expire(ticket))
        self._queue.append(ticket)
        self._set_depth(self._queued_rows + len(rows))
        self._wake_one()
        return ticket

    def _check(self, count: int, deadline: float | None, now: float) -> None:
        if not 1 <= count <= self.max_batch:
            raise InvalidRequestError(f"rows: {count} in one request; expected 1 to {self.max_batch}")
        if self._draining:
            raise ModelUnavailableError("the server is shutting down")
        if deadline is not None and deadline <= now:
            raise DeadlineError(f"the deadline passed {now - deadline:.3f} s before the request was queued")
        if self._queued_rows + count > self.max_queue_rows:
            raise QueueFullError(f"the queue holds {self._queued_rows} rows of at most {self.max_queue_rows}; try again later")

    def _expire(self, ticket: Ticket) -> None:
        """Answer at the deadline; rows that already run are let finish, and the caller's own deadline decides."""
        if ticket.queued:
            ticket.fail(DeadlineError("the deadline passed while the request was queued"))
            self._leave(ticket)

    def _leave(self, ticket: Ticket) -> None:
        """Give back the queue room of a ticket that no longer waits; the deque drops it at its head, or when half is such."""
        if ticket.timer is not None:
            ticket.timer.cancel()
            ticket.timer = None
        if ticket.queued:
            ticket.queued = False
            self._abandoned += 1
            self._set_depth(self._queued_rows - len(ticket.rows))
            self._sweep()
            self._note_drained()

    def _sweep(self) -> None:
        if self._abandoned > len(self._queue) // 2:  # cancelled requests must not hold their rows behind a slow batch
            self._queue = deque(ticket for ticket in self._queue if ticket.queued)
            self._abandoned = 0

    def _take(self) -> list[Ticket]:
        """Whole tickets from the head: an even share of the queue for each runner, at most `max_batch` rows."""
        room = min(self.max_batch, -(-self._queued_rows // len(self._tasks)))
        batch: list[Ticket] = []
        while self._queue:
            ticket = self._queue[0]
            if not ticket.queued:
                self._queue.popleft()
                self._abandoned -= 1
                continue
            if batch and len(ticket.rows) > room:
                break
            self._queue.popleft()
            ticket.queued = False
            room -= len(ticket.rows)
            batch.append(ticket)
            self._queued_rows -= len(ticket.rows)
            if room <= 0:
                break
        self._on_depth(self._queued_rows)
        return batch

    async def _feed(self, runner: Runner) -> None:
        while True:
            batch = self._take()
            if not batch:
                await self._wait_for_work()
                continue
            self._running += 1
            try:
                await self._run(runner, batch)
            finally:
                self._running -= 1
                self._note_drained()

    async def _run(self, runner: Runner, batch: list[Ticket]) -> None:
        rows = sum(len(ticket.rows) for ticket in batch)
        started = self._clock.time()
        try:
            logits = await runner.run([ticket.rows for ticket in batch], rows)
            if len(logits) != rows:
                raise EngineError(f"the engine answered {len(logits)} rows for {rows}")
        except ServingError as error:
            self._fail(batch, error)
            return
        except asyncio.CancelledError:
            self._fail(batch, ModelUnavailableError("the server is shutting down"))
            raise
        except Exception as error:  # whatever the engine raises, its callers are answered and the queue goes on
            self._fail(batch, EngineError(f"the engine failed: {error}"))
            return
        compute = self._clock.time() - started
        self._on_batch(BatchReport(rows, len(batch), compute))
        self._resolve(batch, logits, rows, started, compute)

    def _resolve(self, batch: list[Ticket], logits: Logits, rows: int, started: float, compute: float) -> None:
        offset = 0
        for ticket in batch:
            end = offset + len(ticket.rows)
            waited = started - ticket.enqueued_at
            self._on_wait(waited)
            if not ticket.future.done():  # a neighbour that left must not strand the others
                ticket.future.set_result(Answer(logits[offset:end], rows, waited, compute))
            offset = end

    def _fail(self, batch: list[Ticket], error: ServingError) -> None:
        for ticket in batch:
            ticket.fail(error)

    async def _wait_for_work(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def _wake_one(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _set_depth(self, rows: int) -> None:
        self._queued_rows = rows
        self._on_depth(rows)

    def _note_drained(self) -> None:
        if self._draining and not self._queued_rows and not self._running:
            self._drained.set()
