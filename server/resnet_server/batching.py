"""Dynamic batching: one queue of rows, and a batch whenever an engine is free.

Work-conserving: for a batch time L(b) = a + c*b, taking what is queued the moment an engine is idle maximises throughput, and
no timer is needed. Knows no network, no ONNX Runtime and no Prometheus; clock, timers and engines are injected.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from resnet_server.admission import Admission, Backlog
from resnet_server.engines.interface import Engine, Images, Logits, Outcome
from resnet_server.errors import DeadlineError, EngineError, InvalidRequestError, ModelUnavailableError, QueueFullError, ServingError
from resnet_server.queueing import NORMAL, PRIORITIES, Answer, Piece, RowQueue, Ticket
from resnet_server.waiting import WaitRule

FADE = 0.99  # of the crowd with each request: from 16 rows at a time to one within about 300 requests


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


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran: rows, tickets, seconds of computing, and what the cost model had predicted (None: without one)."""

    rows: int
    tickets: int
    compute_seconds: float
    predicted_seconds: float | None


@dataclass(eq=False)
class _Batch:
    pieces: list[Piece]
    rows: int

    def fail(self, error: ServingError) -> None:
        for piece in self.pieces:
            piece.ticket.fail(error)

    @property
    def wanted(self) -> bool:
        """False once everybody has left."""
        return not all(piece.ticket.future.done() for piece in self.pieces)


@dataclass
class _Lane:
    """An engine and what it has been given."""

    engine: Engine
    running: int = 0


@dataclass(frozen=True)
class Limits:
    """Rows of one request, of one batch, and of the queue; `max_delay` in seconds, None for the measured rule.

    Below `grain` rows a batch is not worth an engine more while another one computes: handing it over would cost the front end,
    which shares the cores, more than it saves.
    """

    max_request: int
    max_batch: int
    max_queue: int
    max_delay: float | None = None
    grain: int = 1


@dataclass
class Watchers:
    """Called as things happen."""

    on_batch: Callable[[BatchReport], None] = lambda _: None
    on_wait: Callable[[float], None] = lambda _: None


class Batcher:
    """Owns the queue of one model and feeds its engines."""

    def __init__(
        self, engines: Sequence[Engine], limits: Limits, clock: Clock, admission: Admission | None = None, watchers: Watchers | None = None
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._admission = admission
        self._watchers = watchers or Watchers()
        self._wait = WaitRule(admission.cost if admission else None, limits.max_delay)
        self._queue = RowQueue(limits.max_batch)
        self._returned: deque[_Batch] = deque()
        self._lanes = [_Lane(engine) for engine in engines]
        self._running: set[_Batch] = set()
        self._running_rows = 0
        self._crowd = 0.0
        self._draining = False
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._timer: TimerHandle | None = None
        for engine in engines:
            engine.watch(self._schedule)

    @property
    def queued_rows(self) -> int:
        """Rows that wait, without the abandoned ones."""
        return self._queue.rows

    @property
    def running_rows(self) -> int:
        """Rows given to engines and not answered."""
        return self._running_rows

    async def submit(self, rows: Images, deadline: float | None = None, priority: int = NORMAL) -> Answer:
        """Compute UINT8 [n, h, w, 3]; `deadline` is a time of the clock.

        Raises InvalidRequestError for a wrong number of rows or priority, QueueFullError, LateError where the deadline cannot be
        met, ModelUnavailableError while draining, DeadlineError at the deadline, EngineError or EngineDiedError.
        """
        ticket = self._admit(rows, deadline, priority)
        timer = None if deadline is None else self._clock.call_at(deadline, lambda: self._expire(ticket))
        try:
            return await ticket.future
        finally:
            if timer is not None:
                timer.cancel()
            if ticket.queued:
                self._queue.remove(ticket)
                self._note_drained()

    async def drain(self) -> None:
        """Take nothing new, finish what is queued and running, and stop."""
        self._draining = True
        if self._queue.rows or self._running_rows:
            await self._drained.wait()
        await self.close()

    async def close(self) -> None:
        """Stop now; what still waits or runs is answered UNAVAILABLE."""
        self._draining = True
        self._lanes.clear()
        if self._timer is not None:
            self._timer.cancel()
        error = ModelUnavailableError("the server is shutting down")
        for batch in (*self._running, *self._returned):
            batch.fail(error)
        self._running.clear()
        for ticket in self._queue.drop_all():
            ticket.fail(error)

    def _admit(self, rows: Images, deadline: float | None, priority: int) -> Ticket:
        now = self._clock.time()
        count = len(rows)
        self._check(count, priority)
        promised = None
        if deadline is not None:
            if deadline <= now:
                raise DeadlineError(f"the deadline passed {now - deadline:.3f} s before the request was queued")
            if self._admission is not None:
                promised = now + self._admission.check(count, deadline - now, self._backlog(priority))
        if self._queue.rows + count > self.limits.max_queue:
            wait = self._admission.seconds(count, self._backlog(priority)) if self._admission else 0.1
            raise QueueFullError(f"the queue holds {self._queue.rows} rows of at most {self.limits.max_queue}; try again later", wait)
        ticket = Ticket(rows, now, priority, self._loop.create_future())
        ticket.deadline, ticket.promised = deadline, promised
        self._queue.add(ticket)
        self._wait.arrived(now)
        self._crowd = max(self._rows_here(), FADE * self._crowd)
        self._schedule()
        return ticket

    def _check(self, count: int, priority: int) -> None:
        if not 1 <= count <= self.limits.max_request:
            raise InvalidRequestError(f"rows: {count} in one request; expected 1 to {self.limits.max_request}")
        if priority not in PRIORITIES:
            raise InvalidRequestError(f"priority: {priority}; expected one of {', '.join(map(str, PRIORITIES))}, 1 being the first")
        if self._draining:
            raise ModelUnavailableError("the server is shutting down")

    def _backlog(self, priority: int) -> Backlog:
        return Backlog(self._queue.rows_before(priority), self._running_rows, sum(lane.engine.ready for lane in self._lanes))

    def _expire(self, ticket: Ticket) -> None:
        """Answer at the deadline. Rows that wait are never computed; those that run are, and nobody waits for them."""
        where = "queued" if ticket.waiting == len(ticket.rows) else "computed"
        ticket.fail(DeadlineError(f"the deadline passed while the request was {where}"))
        if ticket.queued:
            self._queue.remove(ticket)
            self._note_drained()

    def _schedule(self) -> None:
        """Dispatch soon, once the calls that came together with this one are queued, too."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._scheduled = False
        while self._returned and not self._returned[0].wanted:
            self._returned.popleft()
        self._give_up_late_ones()
        while self._returned or self._queue.rows:
            lane = self._free_lane()
            if lane is None or (not self._returned and self._holds_back()):
                return
            self._start(lane, self._returned.popleft() if self._returned else self._next_batch(lane))

    def _give_up_late_ones(self) -> None:
        """Answer now, and do not compute, whom even idle engines could not answer in time any more."""
        admission = self._admission
        if admission is None or not self._queue.rows:
            return
        now, engines = self._clock.time(), sum(lane.engine.ready for lane in self._lanes)

        def is_late(ticket: Ticket) -> bool:
            return ticket.deadline is not None and now + admission.least(len(ticket.rows), engines) > ticket.deadline

        for ticket in self._queue.drop_first(is_late):
            ticket.fail(DeadlineError("the deadline cannot be met any more: the batches before this request took longer than predicted"))
        self._note_drained()

    def _free_lane(self) -> _Lane | None:
        """An idle engine, or one that can have its next batch laid ready."""
        best = min((lane for lane in self._lanes if lane.engine.ready), key=lambda lane: lane.running, default=None)
        if best is None or best.running >= best.engine.depth:
            return None
        if self._returned or not self._running_rows:
            return best
        return best if self._queue.rows >= self._worth(best) else None

    def _worth(self, lane: _Lane) -> int:
        """Rows from which a batch is worth giving to a lane: a grain to an idle one, an even share to lie ready at one that computes."""
        return self._between(self._rows_here() // self._places()) if lane.running else self.limits.grain

    def _share(self, lane: _Lane) -> int:
        """Rows of a lane's next batch, were all that are here spread evenly: over the engines, or over their places where one computes.

        Of what still waits alone the share would become smaller with each batch: 8 rows would go as 4, 2, 1 and 1.
        """
        parts = self._places() if lane.running else sum(other.engine.ready for other in self._lanes)
        return self._between(-(-self._rows_here() // parts))

    def _rows_here(self) -> int:
        return self._queue.rows + self._running_rows

    def _places(self) -> int:
        return sum(lane.engine.depth for lane in self._lanes if lane.engine.ready)

    def _between(self, rows: int) -> int:
        return min(self.limits.max_batch, max(self.limits.grain, rows))

    def _holds_back(self) -> bool:
        if self._queue.rows >= self.limits.max_batch:
            return False
        now = self._clock.time()
        leaves = self._wait.leaves_at(self._queue.rows, self._queue.oldest)
        if leaves <= now:
            return False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(leaves, self._schedule)
        return True

    def _next_batch(self, lane: _Lane) -> _Batch:
        pieces = self._queue.take(self._share(lane))
        return _Batch(pieces, sum(piece.stop - piece.start for piece in pieces))

    def _start(self, lane: _Lane, batch: _Batch) -> None:
        now = self._clock.time()
        alone = not self._queue.rows and not self._running_rows and self._crowd < batch.rows + 1
        lane.running += 1
        self._running.add(batch)
        self._running_rows += batch.rows
        for piece in batch.pieces:
            if piece.start == 0:
                piece.ticket.started_at = now
                self._watchers.on_wait(now - piece.ticket.enqueued_at)
        parts = [piece.ticket.rows[piece.start : piece.stop] for piece in batch.pieces]
        lane.engine.start(parts, batch.rows, alone, lambda outcome: self._finished(lane, batch, outcome))

    def _finished(self, lane: _Lane, batch: _Batch, outcome: Outcome) -> None:
        if batch not in self._running:  # closed in the meantime
            return
        lane.running -= 1
        self._running.remove(batch)
        self._running_rows -= batch.rows
        if not outcome.begun:
            self._returned.append(batch)
        if self._queue.rows or self._returned:
            self._dispatch()  # the engine first, the answers after
        if outcome.error is not None:
            if outcome.begun:
                self._fail(batch, outcome.error)
        elif outcome.logits is None or len(outcome.logits) != batch.rows:
            found = 0 if outcome.logits is None else len(outcome.logits)
            self._fail(batch, EngineError(f"the engine answered {found} rows for {batch.rows}"))
        else:
            self._answer(batch, outcome.logits, outcome.seconds)
        self._note_drained()

    def _answer(self, batch: _Batch, logits: Logits, seconds: float) -> None:
        now = self._clock.time()
        predicted = None
        if self._admission is not None:
            predicted = self._admission.cost.predict(batch.rows)
            self._admission.cost.observe(batch.rows, seconds)
        offset = 0
        for piece in batch.pieces:
            end = offset + piece.stop - piece.start
            piece.ticket.answer(piece.start, logits[offset:end], batch.rows, now)
            offset = end
            if piece.ticket.promised is not None and not piece.ticket.unanswered and self._admission is not None:
                self._admission.kept(now - piece.ticket.promised)
        self._watchers.on_batch(BatchReport(batch.rows, len(batch.pieces), seconds, predicted))

    def _fail(self, batch: _Batch, error: ServingError) -> None:
        for piece in batch.pieces:
            piece.ticket.fail(error)
            self._queue.remove(piece.ticket)

    def _note_drained(self) -> None:
        if self._draining and not self._queue.rows and not self._running_rows and not self._returned:
            self._drained.set()
