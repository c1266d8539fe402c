"""Dynamic batching: one queue of rows, and a batch whenever an engine is free.

Work-conserving: for a batch time L(b) = a + c*b, taking what is queued the moment an engine is idle maximises throughput, and
no timer is needed. Knows no network, no ONNX Runtime and no Prometheus; clock, timers and engines are injected.

Requests come from event loops and from the thread that takes calls in (`Waiter`), engines end on the event loop: one lock guards
it all, and whoever waits is told after it is released.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from functools import partial

from resnet_server.batching.admission import Admission
from resnet_server.batching.batch import Limits, Watchers
from resnet_server.batching.chooser import ANY, Chooser, Demand
from resnet_server.batching.deadline_queue import DeadlineQueue
from resnet_server.batching.deadlines import Clock, Deadlines, Wakeup
from resnet_server.batching.dispatcher import Dispatcher
from resnet_server.batching.door import Door, GroupDoor
from resnet_server.batching.engine_pool import EnginePool, Instance
from resnet_server.batching.group_dispatcher import GroupDispatcher
from resnet_server.batching.row_queue import NORMAL, RowQueue
from resnet_server.batching.settlement import Settlement, tell
from resnet_server.batching.tally import Alone, Tally
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.waiter import Answer, LoopWaiter, Waiter
from resnet_server.engines.api import Engine, Images
from resnet_server.errors import DeadlineError, ModelUnavailableError, QueueFullError, ServingError


class Batcher:
    """Owns the queue of one model and feeds its engines; to be made on the event loop where these end.

    With a `chooser` these compute several networks: the earliest deadline goes first, and for each batch that leaves it says which.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        limits: Limits,
        clock: Clock,
        admission: Admission | None = None,
        watchers: Watchers | None = None,
        tally: Tally | None = None,
        chooser: Chooser | None = None,
    ) -> None:
        self.limits = limits
        self._clock = clock
        tally = tally or Alone()
        self._pool = EnginePool(engines, limits.grain, limits.max_batch, tally, limits.least_grain)
        self._drained = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._lock = threading.Lock()
        self._deadlines = Deadlines()
        self._settlement = Settlement(self._deadlines)
        self._wakeup = Wakeup(clock, self._ring)
        common = (self._pool, clock, self._lock, self._settlement, admission, watchers or Watchers())
        self._queue: RowQueue
        self._door: Door
        self._dispatcher: Dispatcher
        if chooser is None:
            self._queue = RowQueue(limits.max_batch, tally)
            self._door = Door(limits, self._queue, self._pool, admission)
            self._dispatcher = Dispatcher(limits, self._queue, *common)
        else:
            self._queue = queue = DeadlineQueue(limits.max_batch, tally, chooser)
            self._door = GroupDoor(limits, queue, self._pool, admission, chooser)
            self._dispatcher = GroupDispatcher(limits, queue, *common, chooser)
        self._dispatcher.wakeup, self._dispatcher.drop_late, self._dispatcher.ended = self._wakeup, self._drop_late, self._note_drained
        self._on_engines: Callable[[int], None] = lambda _: None
        for instance in self._pool.instances:
            instance.engine.watch(partial(self._engine_changed, instance))

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
        return self._pool.running_rows

    async def submit(self, rows: Images, deadline: float | None = None, priority: int = NORMAL, demand: Demand = ANY) -> Answer:
        """Compute UINT8 [n, h, w, 3]; `deadline` is a time of the clock; a `demand` counts in front of several networks.

        Raises InvalidRequestError for a wrong number of rows or priority, or a demand that no network meets, QueueFullError, LateError
        where the deadline cannot be met, ModelUnavailableError while draining, DeadlineError at the deadline, EngineError or
        EngineDiedError.
        """
        waiter = LoopWaiter()
        ticket = self.enqueue(rows, deadline, priority, waiter, demand)
        try:
            return await waiter.future
        finally:
            self.leave(ticket)

    def judge(self, count: int, deadline: float | None, priority: int = NORMAL, demand: Demand = ANY) -> None:
        """Raise what `enqueue` would raise now for `count` rows that are not there yet: before they are dearly made."""
        with self._lock:
            self._door.check(count, deadline, priority, self._clock.time(), demand)

    def enqueue(self, rows: Images, deadline: float | None, priority: int, waiter: Waiter, demand: Demand = ANY) -> Ticket:
        """What `submit` does, from the thread where `waiter` lives, who is told the outcome unless this raises."""
        with self._lock:
            ticket = self._admit(rows, deadline, priority, waiter, demand)
            evicted = self._settlement.take()
            soon = not self._scheduled and self._dispatcher.could_start(self._clock.time())
            if soon:
                self._scheduled = True
        tell(evicted)
        if soon:
            waiter.defer(self._dispatch_scheduled)
        return ticket

    def leave(self, ticket: Ticket) -> bool:
        """Its caller has left: drop the rows that still wait, and tell nobody. False if it was over before."""
        with self._lock:
            left = self._settlement.close(ticket)
            if left:
                self._queue.remove(ticket)
                self._note_drained()
        return left

    def refuse_waiting(self, error: ServingError) -> None:
        """Answer `error` to everybody whose rows no engine has; what runs goes on."""
        with self._lock:
            self._dispatcher.give_up(error)
            self._note_drained()
            outcomes = self._settlement.take()
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
            self._door.shut = True
            self._note_drained()
        await self._drained.wait()
        await self.close()

    async def close(self) -> None:
        """Stop now; what still waits or runs is answered UNAVAILABLE."""
        with self._lock:
            self._door.shut = True
            self._dispatcher.abandon(ModelUnavailableError("the server is shutting down"))
            self._note_drained()
            self._wakeup.cancel()
            outcomes = self._settlement.take()
        tell(outcomes)

    def _admit(self, rows: Images, deadline: float | None, priority: int, waiter: Waiter, demand: Demand) -> Ticket:
        now = self._clock.time()
        promised = self._door.check(len(rows), deadline, priority, now, demand)
        ticket = Ticket(rows, now, priority, waiter)
        ticket.deadline, ticket.promised = deadline, promised
        self._queue.add(ticket, demand)
        for loser in self._queue.evict(priority, self.limits.max_queue):
            text = "requests of a higher priority fill the queue; try again later"
            self._settlement.end(loser, QueueFullError(text, self._door.retry_after(len(loser.rows), loser.priority)))
        if deadline is not None:
            self._deadlines.add(ticket)
            self._wakeup.set(deadline)
        self._dispatcher.arrived(now, len(rows))
        return ticket

    def _ring(self) -> None:
        """Find hung engines, and answer expired requests: waiting rows are dropped, results of running rows discarded."""
        with self._lock:
            now = self._clock.time()
            hung = self._dispatcher.watchdog.look(now)
            for instance in hung:
                self._dispatcher.suspect(instance)
            self._answer_expired(now)
            self._note_drained()
            self._wakeup.set(min(self._deadlines.earliest, self._dispatcher.watchdog.next_look))
        for instance in hung:
            instance.engine.kill()
        if hung:
            self._on_engines(self.engines_up)
        self._dispatcher.go_on()

    def _answer_expired(self, now: float) -> None:
        for ticket in self._deadlines.passed(now):
            where = "queued" if ticket.waiting == len(ticket.rows) else "computed"
            self._settlement.end(ticket, DeadlineError(f"the deadline passed while the request was {where}"))
            self._queue.remove(ticket)

    def _drop_late(self, now: float) -> None:
        """Answer now, without computing, the requests whose deadline even an idle engine could no longer meet."""
        if not self._queue.rows or not len(self._deadlines):
            return
        for ticket in self._queue.drop_first(lambda ticket: self._door.is_late(ticket, now)):
            text = "the deadline cannot be met any more: the batches before this request took longer than predicted"
            self._settlement.end(ticket, DeadlineError(text))

    def _engine_changed(self, instance: Instance) -> None:
        with self._lock:
            instance.up, instance.suspected = instance.engine.ready, False
        self._on_engines(self.engines_up)
        self._dispatcher.go_on()

    def _dispatch_scheduled(self) -> None:
        self._scheduled = False  # first: whoever comes from here on schedules anew
        self._dispatcher.go_on()

    def _note_drained(self) -> None:
        if self._door.shut and not self._queue.rows and self._dispatcher.idle:
            self._loop.call_soon_threadsafe(self._drained.set)
