"""Batches of a group: which network computes is decided when the batch leaves."""

import threading

from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import Batch, Limits, Watchers
from resnet_server.batching.chooser import Choice, Chooser, Leaving
from resnet_server.batching.deadline_queue import DeadlineQueue
from resnet_server.batching.deadlines import Clock
from resnet_server.batching.dispatcher import Dispatcher
from resnet_server.batching.engine_pool import EnginePool, Instance
from resnet_server.batching.settlement import Settlement
from resnet_server.batching.ticket import Ticket


class GroupDispatcher(Dispatcher):
    """See `Dispatcher`. The cost model, and so everything at the door, is that of the cheapest network."""

    def __init__(
        self,
        limits: Limits,
        queue: DeadlineQueue,
        pool: EnginePool,
        clock: Clock,
        lock: threading.Lock,
        settlement: Settlement,
        admission: Admission | None,
        watchers: Watchers,
        chooser: Chooser,
    ) -> None:
        self._chooser, self._tickets = chooser, queue
        super().__init__(limits, queue, pool, clock, lock, settlement, admission, watchers)

    def arrived(self, now: float, rows: int) -> None:
        """See `Dispatcher.arrived`."""
        self._chooser.arrived(now, rows)
        super().arrived(now, rows)

    def _start(self, instance: Instance, batch: Batch, now: float) -> None:
        if batch.choice is None:  # else an engine went before it began this batch: parts of a request may be answered already
            batch.choice = self._choose(instance, batch, now)
            own = self._chooser.surplus(batch.choice, batch.rows)
            batch.chosen = self._tickets.chosen + own
            self._tickets.chosen += own / max(1, self._pool.engines)
            last = batch.pieces[-1].ticket
            if last.waiting and last.lane.choice is None:  # one network answers all of a request
                self._tickets.keep_together(last, self._chooser.rest(batch.choice))
        batch.pressed = bool(self._tickets.rows or instance.runs)
        super()._start(instance, batch, now)

    def _choose(self, instance: Instance, batch: Batch, now: float) -> Choice:
        lane = batch.pieces[0].ticket.lane
        if lane.choice is not None:
            return lane.choice
        begins = now + self._runs_for(instance, now)
        slack = min([piece.ticket.objective for piece in batch.pieces]) - begins
        behind = [(rows, last - begins) for rows, last in self._tickets.behind]
        engines = max(1, self._pool.engines) / self._limits.sharers
        return self._chooser.choose(now, Leaving(batch.rows, lane, slack, self._tickets.rows, behind, engines, len(batch.pieces)))

    def _chosen(self, ticket: Ticket, batch: Batch) -> float:
        """The door promises what the cheapest network would keep: that a dearer one was chosen, since there was time, is no fault of it."""
        return batch.chosen - ticket.chosen

    def _runs_for(self, instance: Instance, now: float) -> float:
        """Seconds until the engine has ended what it has, as far as that can be told."""
        expected = sum(self._chooser.seconds(run.batch.choice, run.batch.rows) for run in instance.runs if run.batch.choice is not None)
        return max(0.0, instance.runs[0].first_since + expected - now) if instance.runs else 0.0

    def _longest(self) -> float:
        return self._chooser.longest(self._limits.max_batch) * super()._longest()

    def _compare(self, batch: Batch, seconds: float, now: float) -> float | None:
        assert batch.choice is not None  # noqa: S101  # it ran
        own = batch.pressed and self._limits.sharers == 1  # else others' batches hold the engine, too
        self._chooser.observe(batch.choice, batch.rows, seconds, batch.alone, batch.held if own else None)
        times = self._chooser.times(batch.choice, batch.rows)
        predicted = super()._compare(batch, seconds / times, now)
        return None if predicted is None else times * predicted
