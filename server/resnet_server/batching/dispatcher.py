"""From the queue to the engines and back: which batch leaves when, and what becomes of it."""

import threading
from collections import deque
from collections.abc import Callable

from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import Batch, BatchReport, Limits, Watchers
from resnet_server.batching.deadlines import Clock, Wakeup
from resnet_server.batching.delay_rule import DelayRule
from resnet_server.batching.engine_pool import EnginePool, Instance, Run
from resnet_server.batching.row_queue import RowQueue
from resnet_server.batching.settlement import Settlement, tell
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.watchdog import Watchdog
from resnet_server.engines.api import Outcome
from resnet_server.errors import EngineDiedError, ServingError

FADE = 0.99  # of the crowd with each request: from 16 rows at a time to one within about 300 requests


class Dispatcher:
    """Gives batches to the instances of `pool`. All but `go_on` and what engines call is done under the batcher's `lock`."""

    def __init__(
        self,
        limits: Limits,
        queue: RowQueue,
        pool: EnginePool,
        clock: Clock,
        lock: threading.Lock,
        settlement: Settlement,
        admission: Admission | None,
        watchers: Watchers,
    ) -> None:
        self._limits = limits
        self._queue = queue
        self._pool = pool
        self._clock = clock
        self._lock = lock
        self._settlement = settlement
        self._admission = admission
        self._watchers = watchers
        self._delay_rule = DelayRule(admission.cost if admission else None, limits.max_delay)
        self._returned: deque[Batch] = deque()
        self._given: set[Batch] = set()
        self._crowd = 0.0
        self.watchdog = Watchdog(pool, self._longest if admission else None)
        self.wakeup: Wakeup
        self.drop_late: Callable[[float], None] = lambda _: None
        self.ended: Callable[[], None] = lambda: None

    @property
    def idle(self) -> bool:
        """Whether no batch is anywhere."""
        return not self._given and not self._returned

    def arrived(self, now: float, rows: int) -> None:
        """Note a request of so many rows that was queued."""
        self._delay_rule.arrived(now)
        self._crowd = max(self._rows_here(), FADE * self._crowd)

    def could_start(self, now: float) -> bool:
        """Whether an engine would take what is queued."""
        return self._free_instance(now) is not None

    def go_on(self) -> None:
        """Give the engines what is worth giving."""
        with self._lock:
            self._dispatch()
            outcomes = self._settlement.take()
        tell(outcomes)

    def suspect(self, instance: Instance) -> None:
        """Answer the batch that hangs there, and take back the one that lies ready behind it."""
        first, *ready = self._pool.suspect(instance)
        self._given.discard(first)
        self._fail(first, EngineDiedError("the engine took many times longer than predicted and was ended; try again"))
        for batch in ready:
            self._take_back(batch)
        self._watchers.on_hung()

    def give_up(self, error: ServingError) -> None:
        """Answer everyone who waits for an engine."""
        for batch in self._returned:
            self._fail(batch, error)
        self._returned.clear()
        for ticket in self._queue.drop_all():
            self._settlement.end(ticket, error)

    def abandon(self, error: ServingError) -> None:
        """Answer everyone who is here, and forget what runs."""
        self._pool.clear()
        for batch in self._given:
            self._fail(batch, error)
        self._given.clear()
        self.give_up(error)

    def _dispatch(self) -> None:
        now = self._clock.time()
        while self._returned and self._returned[0].waiter() is None:
            self._returned.popleft()
        self.drop_late(now)
        while self._returned or self._queue.rows:
            instance = self._free_instance(now)
            if instance is None or (not self._returned and self._holds_back(now)):
                break
            self._start(instance, self._returned.popleft() if self._returned else self._next_batch(instance), now)
        self.ended()

    def _free_instance(self, now: float) -> Instance | None:
        instance = self._pool.free()
        if instance is None or self._returned or not self._pool.computing(now, self.watchdog.usual):
            return instance
        return instance if self._queue.rows >= self._pool.worth(instance, self._rows_here()) else None

    def _longest(self) -> float:
        """Seconds of a full batch behind those of all who share its engine."""
        assert self._admission is not None  # noqa: S101  # nothing is expected without
        return self._limits.slowest * self._limits.sharers * self._admission.cost.predict(self._limits.max_batch)

    def _rows_here(self) -> int:
        return self._queue.rows + self._pool.running_rows

    def _holds_back(self, now: float) -> bool:
        if self._queue.rows >= self._limits.max_batch:
            return False
        leaves = self._delay_rule.leaves_at(self._queue.rows, self._queue.oldest)
        if leaves <= now:
            return False
        self.wakeup.set(leaves)
        return True

    def _next_batch(self, instance: Instance) -> Batch:
        pieces = self._queue.take(self._pool.share(instance, self._rows_here()))
        return Batch(pieces, sum(piece.stop - piece.start for piece in pieces))

    def _start(self, instance: Instance, batch: Batch, now: float) -> None:
        others = self._queue.others_rows + self._pool.others_rows
        batch.alone = not (self._queue.rows or self._pool.running_rows or others) and self._crowd < batch.rows + 1
        run = Run(batch, now)
        self._pool.begin(instance, run)
        self._given.add(batch)
        self.wakeup.set(self.watchdog.begin(now))
        for piece in batch.pieces:
            if piece.start == 0:
                piece.ticket.started_at = now
                self._watchers.on_wait(now - piece.ticket.enqueued_at)
        instance.engine.start(batch.images, batch.rows, batch.alone, lambda outcome: self._finished(instance, run, outcome), batch.network)

    def _finished(self, instance: Instance, run: Run, outcome: Outcome) -> None:
        """The engine first; the answers after, where those who asked live."""
        batch = run.batch
        with self._lock:
            now = self._clock.time()
            batch.held = now - run.first_since
            known = self._pool.end(instance, run, now) and batch in self._given
            if known and not outcome.begun:
                self._take_back(batch)
            if self._queue.rows or self._returned:
                self._dispatch()
            waiter = batch.waiter()
            outcomes = self._settlement.take()
        tell(outcomes)
        if not known or not outcome.begun:
            return
        if waiter is None:
            self._conclude(batch, outcome)
        else:
            waiter.post(lambda: self._conclude(batch, outcome))

    def _take_back(self, batch: Batch) -> None:
        """Run it on another engine, but only once: a batch must not end one engine after the other."""
        self._given.discard(batch)
        if batch.returned:
            self._fail(batch, EngineDiedError("two engines in a row ended before they computed it; try again"))
        else:
            batch.returned = True
            self._returned.append(batch)

    def _conclude(self, batch: Batch, outcome: Outcome) -> None:
        with self._lock:
            if batch not in self._given:  # closed in the meantime
                return
            self._given.remove(batch)
            defect = batch.defect(outcome)
            if defect is not None:
                self._fail(batch, defect)
            elif outcome.logits is not None:
                self._answer(batch, outcome)
            self.ended()
            outcomes = self._settlement.take()
        tell(outcomes)

    def _answer(self, batch: Batch, outcome: Outcome) -> None:
        now = self._clock.time()
        predicted = self._compare(batch, outcome.seconds, now)
        assert outcome.logits is not None  # noqa: S101  # the caller has looked
        for ticket, answer in batch.answers(outcome.logits, now, outcome.seconds):
            self._learn(ticket, batch, now)
            self._settlement.end(ticket, answer)
        self._watchers.on_batch(BatchReport(batch.rows, len(batch.pieces), outcome.seconds, predicted, batch.alone, batch.choice))

    def _compare(self, batch: Batch, seconds: float, now: float) -> float | None:
        """Learn what the batch took; what had been predicted for it."""
        return None if self._admission is None else self._admission.computed(batch.rows, seconds, batch.alone, now)

    def _learn(self, ticket: Ticket, batch: Batch, now: float) -> None:
        if ticket.promised is not None and self._admission is not None:
            late = now - ticket.promised - self._chosen(ticket, batch)
            self._admission.kept(late, (ticket.priority, len(ticket.rows) > self._limits.max_batch), now)

    def _chosen(self, ticket: Ticket, batch: Batch) -> float:
        """Seconds that it took by choice: one network has none."""
        return 0.0

    def _fail(self, batch: Batch, error: ServingError) -> None:
        for piece in batch.pieces:
            self._settlement.end(piece.ticket, error)
            self._queue.remove(piece.ticket)
