"""What a request has to pass before anything dear is done for it."""

from resnet_server.batching.admission import Admission, Backlog
from resnet_server.batching.batch import Limits
from resnet_server.batching.chooser import ANY, Chooser, Demand
from resnet_server.batching.engine_pool import EnginePool
from resnet_server.batching.row_queue import PRIORITIES, RowQueue
from resnet_server.batching.ticket import Ticket
from resnet_server.errors import DeadlineError, InvalidRequestError, LateError, ModelUnavailableError, QueueFullError

RETRY_SECONDS = 0.1  # where no cost model says when to come again


class Door:
    """Judges by state, deadline and rows, in this order; `shut` once the server drains."""

    def __init__(self, limits: Limits, queue: RowQueue, pool: EnginePool, admission: Admission | None = None) -> None:
        self._limits = limits
        self._queue = queue
        self._pool = pool
        self._admission = admission
        self.shut = False

    def check(self, rows: int, deadline: float | None, priority: int, now: float, demand: Demand = ANY) -> float | None:
        """Raise what refuses such a request now; return the time its answer is promised for, None without a cost model."""
        self._check_form(rows, priority)
        if self.shut:
            raise ModelUnavailableError("the server is shutting down")
        promised = self._promise(rows, deadline, priority, now, 1.0 if demand is ANY else self._times(demand))
        if not self._queue.has_room(rows, priority, self._limits.max_queue):
            text = f"the queue holds {self._queue.rows + self._queue.others_rows} rows of at most {self._limits.max_queue}; try again later"
            raise QueueFullError(text, self.retry_after(rows, priority))
        return promised

    def retry_after(self, rows: int, priority: int) -> float:
        """Seconds after which trying again may succeed."""
        return self._admission.seconds(rows, self._backlog(priority)) if self._admission else RETRY_SECONDS

    def is_late(self, ticket: Ticket, now: float) -> bool:
        """True if not even an idle engine can still answer it in time; never of a request that was let in to try the plan."""
        if self._admission is None or ticket.deadline is None or ticket.promised is None or ticket.promised > ticket.deadline:
            return False
        return now + self._times_of(ticket) * self._admission.least(len(ticket.rows), self._pool.engines) > ticket.deadline

    def _check_form(self, rows: int, priority: int) -> None:
        if not 1 <= rows <= self._limits.max_request:
            raise InvalidRequestError(f"rows: {rows} in one request; expected 1 to {self._limits.max_request}")
        if priority not in PRIORITIES:
            raise InvalidRequestError(f"priority: {priority}; expected one of {', '.join(map(str, PRIORITIES))}, 1 being the first")

    def _times(self, demand: Demand) -> float:
        """What rows cost, as a multiple of what the cost model says: a single network has nothing to choose."""
        return 1.0

    def _times_of(self, ticket: Ticket) -> float:
        return 1.0

    def _promise(self, rows: int, deadline: float | None, priority: int, now: float, times: float) -> float | None:
        if deadline is not None and deadline <= now:
            raise DeadlineError(f"the deadline passed {now - deadline:.3f} s before the request was queued")
        if self._admission is None:
            return None
        backlog = self._backlog(priority)
        if deadline is None:  # promised all the same: the model learns how far it is off from everyone
            return now + self._admission.seconds(rows, backlog, times)
        return now + self._admission.check(rows, deadline - now, backlog, (priority, rows > self._limits.max_batch), now, times)

    def _backlog(self, priority: int) -> Backlog:
        return Backlog(self._queue.rows_before(priority), self._pool.running_rows + self._pool.others_rows, self._pool.engines)


class GroupDoor(Door):
    """In front of several networks: refuses only what even the cheapest one that a request accepts could not answer in time."""

    def __init__(self, limits: Limits, queue: RowQueue, pool: EnginePool, admission: Admission | None, chooser: Chooser) -> None:
        super().__init__(limits, queue, pool, admission)
        self._chooser = chooser

    def check(self, rows: int, deadline: float | None, priority: int, now: float, demand: Demand = ANY) -> float | None:
        """See `Door.check`. Refused requests count as arrivals: otherwise the group would see less load than there is, and refuse more."""
        try:
            return super().check(rows, deadline, priority, now, demand)
        except (LateError, QueueFullError):
            self._chooser.arrived(now, rows)
            raise

    def _times(self, demand: Demand) -> float:
        return self._chooser.lane(demand).times

    def _times_of(self, ticket: Ticket) -> float:
        return ticket.lane.times
