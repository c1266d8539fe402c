"""Dynamic batching: one queue of rows, and a batch whenever an engine is free.

Work-conserving: for a batch time L(b) = a + c*b, taking what is queued the moment an engine is idle maximises throughput, and
no timer is needed. Knows no network, no ONNX Runtime and no Prometheus; clock, timers and engines are injected.

Requests come from event loops and from the thread that takes calls in (`Waiter`), engines end on the event loop: one lock guards
it all, and whoever waits is told after it is released.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from resnet_server.batching.admission import Admission, Backlog
from resnet_server.batching.batch import Batch, BatchReport, Limits, Watchers
from resnet_server.batching.deadlines import Clock, Deadlines, Wakeup
from resnet_server.batching.delay_rule import DelayRule
from resnet_server.batching.engine_pool import EnginePool, PooledEngine
from resnet_server.batching.row_queue import NORMAL, PRIORITIES, RowQueue, Ticket
from resnet_server.batching.waiter import Answer, LoopWaiter, Waiter
from resnet_server.engines.api import Engine, Images, Logits, Outcome
from resnet_server.errors import DeadlineError, EngineError, InvalidRequestError, ModelUnavailableError, QueueFullError, ServingError

FADE = 0.99  # of the crowd with each request: from 16 rows at a time to one within about 300 requests


class Batcher:
    """Owns the queue of one model and feeds its engines; to be made on the event loop where these end."""

    def __init__(
        self, engines: Sequence[Engine], limits: Limits, clock: Clock, admission: Admission | None = None, watchers: Watchers | None = None
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._admission = admission
        self._watchers = watchers or Watchers()
        self._delay_rule = DelayRule(admission.cost if admission else None, limits.max_delay)
        self._queue = RowQueue(limits.max_batch)
        self._returned: deque[Batch] = deque()
        self._pool = EnginePool(engines, limits.grain, limits.max_batch)
        self._given: set[Batch] = set()
        self._running_rows = 0
        self._crowd = 0.0
        self._draining = False
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._lock = threading.Lock()
        self._outcomes: list[tuple[Waiter, Answer | ServingError]] = []
        self._deadlines = Deadlines()
        self._wakeup = Wakeup(clock, self._ring)
        self._on_engines: Callable[[int], None] = lambda _: None
        for number, engine in enumerate(engines):
            engine.watch(partial(self._engine_changed, number))

    @property
    def engines_up(self) -> int:
        """Engines that take batches now."""
        return self._pool.engines

    def watch_engines(self, changed: Callable[[int], None]) -> None:
        """Call `changed` with `engines_up` on the event loop, now and after each change."""
        self._on_engines = changed
        changed(self.engines_up)

    @property
    def queued_rows(self) -> int:
        """Rows that wait, without the abandoned ones."""
        return self._queue.rows

    @property
    def running_rows(self) -> int:
        """Rows that engines have and have not ended."""
        return self._running_rows

    async def submit(self, rows: Images, deadline: float | None = None, priority: int = NORMAL) -> Answer:
        """Compute UINT8 [n, h, w, 3]; `deadline` is a time of the clock.

        Raises InvalidRequestError for a wrong number of rows or priority, QueueFullError, LateError where the deadline cannot be
        met, ModelUnavailableError while draining, DeadlineError at the deadline, EngineError or EngineDiedError.
        """
        waiter = LoopWaiter()
        ticket = self.enqueue(rows, deadline, priority, waiter)
        try:
            return await waiter.future
        finally:
            self.leave(ticket)

    def enqueue(self, rows: Images, deadline: float | None, priority: int, waiter: Waiter) -> Ticket:
        """What `submit` does, from the thread where `waiter` lives, who is told the outcome unless this raises."""
        with self._lock:
            ticket = self._admit(rows, deadline, priority, waiter)
            soon = not self._scheduled and self._free_lane() is not None
            if soon:
                self._scheduled = True
        if soon:
            waiter.defer(self._dispatch_scheduled)
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """Nobody waits for it any more: what still waits is not computed, and nobody is told. False if it was over before."""
        with self._lock:
            left = self._close(ticket)
            if left:
                self._unqueue(ticket)
        return left

    def refuse_waiting(self, error: ServingError) -> None:
        """Answer `error` to everybody whose rows no engine has; what runs goes on."""
        with self._lock:
            for ticket in self._queue.drop_all():
                self._end(ticket, error)
            for batch in self._returned:
                for piece in batch.pieces:
                    self._end(piece.ticket, error)
            self._returned.clear()
            self._note_drained()
            outcomes = self._take_outcomes()
        tell(outcomes)

    def is_free(self) -> bool:
        """False while a thread is inside; one that never is again is deadlocked. Does not wait."""
        if not self._lock.acquire(blocking=False):
            return False
        self._lock.release()
        return True

    async def drain(self) -> None:
        """Take nothing new, finish what is queued and running, and stop."""
        with self._lock:
            self._draining = True
            self._note_drained()
        await self._drained.wait()
        await self.close()

    async def close(self) -> None:
        """Stop now; what still waits or runs is answered UNAVAILABLE."""
        with self._lock:
            self._draining = True
            self._pool.clear()
            error = ModelUnavailableError("the server is shutting down")
            for batch in (*self._given, *self._returned):
                for piece in batch.pieces:
                    self._end(piece.ticket, error)
            self._given.clear()
            for ticket in self._queue.drop_all():
                self._end(ticket, error)
            self._wakeup.cancel()
            outcomes = self._take_outcomes()
        tell(outcomes)

    def judge(self, count: int, deadline: float | None, priority: int = NORMAL) -> None:
        """Raise what `enqueue` would raise now for `count` rows that are not there yet: before they are dearly made."""
        with self._lock:
            self._judge(count, deadline, priority, self._clock.time())

    def _judge(self, count: int, deadline: float | None, priority: int, now: float) -> float | None:
        """When the answer is promised, as a time of the clock; None without a deadline or a cost model."""
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
        return promised

    def _admit(self, rows: Images, deadline: float | None, priority: int, waiter: Waiter) -> Ticket:
        now = self._clock.time()
        promised = self._judge(len(rows), deadline, priority, now)
        ticket = Ticket(rows, now, priority, waiter)
        ticket.deadline, ticket.promised = deadline, promised
        self._queue.add(ticket)
        if deadline is not None:
            self._deadlines.add(ticket)
            self._wakeup.set(deadline)
        self._delay_rule.arrived(now)
        self._crowd = max(self._rows_here(), FADE * self._crowd)
        return ticket

    def _check(self, count: int, priority: int) -> None:
        if not 1 <= count <= self.limits.max_request:
            raise InvalidRequestError(f"rows: {count} in one request; expected 1 to {self.limits.max_request}")
        if priority not in PRIORITIES:
            raise InvalidRequestError(f"priority: {priority}; expected one of {', '.join(map(str, PRIORITIES))}, 1 being the first")
        if self._draining:
            raise ModelUnavailableError("the server is shutting down")

    def _backlog(self, priority: int) -> Backlog:
        return Backlog(self._queue.rows_before(priority), self._running_rows, self._pool.engines)

    def _end(self, ticket: Ticket, outcome: Answer | ServingError) -> None:
        """Have its waiter told once the lock is released, unless it is over: a neighbour that left must not strand the others."""
        waiter = ticket.waiter
        if waiter is not None and self._close(ticket):
            self._outcomes.append((waiter, outcome))

    def _close(self, ticket: Ticket) -> bool:
        """Let it be over; False if it was."""
        if ticket.over:
            return False
        ticket.over, ticket.waiter = True, None
        if ticket.deadline is not None:
            self._deadlines.forget()
        return True

    def _unqueue(self, ticket: Ticket) -> None:
        if ticket.queued:
            self._queue.remove(ticket)
            self._note_drained()

    def _take_outcomes(self) -> list[tuple[Waiter, Answer | ServingError]]:
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def _ring(self) -> None:
        """Answer at the deadline. Rows that wait are never computed; those that run are, and nobody waits for them."""
        with self._lock:
            for ticket in self._deadlines.passed(self._clock.time()):
                where = "queued" if ticket.waiting == len(ticket.rows) else "computed"
                self._end(ticket, DeadlineError(f"the deadline passed while the request was {where}"))
                self._unqueue(ticket)
            self._wakeup.set(self._deadlines.earliest)
        self._go_on()

    def _dispatch_scheduled(self) -> None:
        self._scheduled = False  # first: whoever comes from here on schedules anew
        self._go_on()

    def _engine_changed(self, number: int) -> None:
        with self._lock:
            self._pool.update(number)
        self._on_engines(self.engines_up)
        self._go_on()

    def _go_on(self) -> None:
        """Give the engines what is worth giving."""
        with self._lock:
            self._dispatch()
            outcomes = self._take_outcomes()
        tell(outcomes)

    def _dispatch(self) -> None:
        while self._returned and self._returned[0].waiter() is None:
            self._returned.popleft()
            self._note_drained()
        self._give_up_late_ones()
        while self._returned or self._queue.rows:
            lane = self._free_lane()
            if lane is None or (not self._returned and self._holds_back()):
                return
            self._start(lane, self._returned.popleft() if self._returned else self._next_batch(lane))

    def _give_up_late_ones(self) -> None:
        """Answer now, and do not compute, whom even idle engines could not answer in time any more."""
        admission = self._admission
        if admission is None or not self._queue.rows or not len(self._deadlines):
            return
        now, engines = self._clock.time(), self._pool.engines

        def is_late(ticket: Ticket) -> bool:
            return ticket.deadline is not None and now + admission.least(len(ticket.rows), engines) > ticket.deadline

        for ticket in self._queue.drop_first(is_late):
            text = "the deadline cannot be met any more: the batches before this request took longer than predicted"
            self._end(ticket, DeadlineError(text))
        self._note_drained()

    def _free_lane(self) -> PooledEngine | None:
        lane = self._pool.free()
        if lane is None or self._returned or not self._running_rows:
            return lane
        return lane if self._queue.rows >= self._pool.worth(lane, self._rows_here()) else None

    def _rows_here(self) -> int:
        return self._queue.rows + self._running_rows

    def _holds_back(self) -> bool:
        if self._queue.rows >= self.limits.max_batch:
            return False
        leaves = self._delay_rule.leaves_at(self._queue.rows, self._queue.oldest)
        if leaves <= self._clock.time():
            return False
        self._wakeup.set(leaves)
        return True

    def _next_batch(self, lane: PooledEngine) -> Batch:
        pieces = self._queue.take(self._pool.share(lane, self._rows_here()))
        return Batch(pieces, sum(piece.stop - piece.start for piece in pieces))

    def _start(self, lane: PooledEngine, batch: Batch) -> None:
        now = self._clock.time()
        alone = not self._queue.rows and not self._running_rows and self._crowd < batch.rows + 1
        lane.running += 1
        self._given.add(batch)
        self._running_rows += batch.rows
        for piece in batch.pieces:
            if piece.start == 0:
                piece.ticket.started_at = now
                self._watchers.on_wait(now - piece.ticket.enqueued_at)
        parts = [piece.ticket.rows[piece.start : piece.stop] for piece in batch.pieces]
        lane.engine.start(parts, batch.rows, alone, lambda outcome: self._finished(lane, batch, outcome))

    def _finished(self, lane: PooledEngine, batch: Batch, outcome: Outcome) -> None:
        """The engine first; the answers after, where those who asked live."""
        with self._lock:
            if batch not in self._given:  # closed in the meantime
                return
            lane.running -= 1
            self._running_rows -= batch.rows
            if not outcome.begun:
                self._given.remove(batch)
                self._returned.append(batch)
            if self._queue.rows or self._returned:
                self._dispatch()
            waiter = batch.waiter()
            outcomes = self._take_outcomes()
        tell(outcomes)
        if not outcome.begun:
            return
        if waiter is None:
            self._conclude(batch, outcome)
        else:
            waiter.post(lambda: self._conclude(batch, outcome))

    def _conclude(self, batch: Batch, outcome: Outcome) -> None:
        with self._lock:
            if batch not in self._given:
                return
            self._given.remove(batch)
            if outcome.error is not None:
                self._fail(batch, outcome.error)
            elif outcome.logits is None or len(outcome.logits) != batch.rows:
                found = 0 if outcome.logits is None else len(outcome.logits)
                self._fail(batch, EngineError(f"the engine answered {found} rows for {batch.rows}"))
            else:
                self._answer(batch, outcome.logits, outcome.seconds)
            self._note_drained()
            outcomes = self._take_outcomes()
        tell(outcomes)

    def _answer(self, batch: Batch, logits: Logits, seconds: float) -> None:
        now = self._clock.time()
        predicted = None
        if self._admission is not None:
            predicted = self._admission.cost.predict(batch.rows)
            self._admission.cost.observe(batch.rows, seconds)
        offset = 0
        for piece in batch.pieces:
            ticket, end = piece.ticket, offset + piece.stop - piece.start
            answer = ticket.answer(piece.start, logits[offset:end], batch.rows, now)
            offset = end
            if answer is not None:
                if ticket.promised is not None and self._admission is not None:
                    self._admission.kept(now - ticket.promised)
                self._end(ticket, answer)
        self._watchers.on_batch(BatchReport(batch.rows, len(batch.pieces), seconds, predicted))

    def _fail(self, batch: Batch, error: ServingError) -> None:
        for piece in batch.pieces:
            self._end(piece.ticket, error)
            self._queue.remove(piece.ticket)

    def _note_drained(self) -> None:
        if self._draining and not self._queue.rows and not self._given and not self._returned:
            self._loop.call_soon_threadsafe(self._drained.set)


def tell(outcomes: list[tuple[Waiter, Answer | ServingError]]) -> None:
    """Each its own; without the lock, since telling takes its time."""
    for waiter, outcome in outcomes:
        waiter.settle(outcome)
