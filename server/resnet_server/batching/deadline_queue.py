"""The queue of a group: by priority, then by deadline; a batch has requests that accept the same networks."""

import heapq
import itertools
from collections.abc import Callable, Iterator
from math import inf, log2

from resnet_server.batching.chooser import ANY, Chooser, Demand, Lane
from resnet_server.batching.row_queue import PRIORITIES, RowQueue
from resnet_server.batching.tally import Tally
from resnet_server.batching.ticket import Piece, Ticket

PATIENCE_SECONDS = 1.0
"""A request without any deadline is due after so long: it lets those in a hurry pass, and they cannot pass it for ever."""
SPANS = 2.0  # for each doubling of the time that requests were given: those of one span have about the same
LEAST_SECONDS = 1e-4


class Lanes:
    """Tickets of one priority: for each lane a heap, the one that is due first on top."""

    def __init__(self) -> None:
        self._heaps: dict[Lane, list[tuple[float, int, Ticket]]] = {}
        self._order = itertools.count()

    def __len__(self) -> int:
        return sum(map(len, self._heaps.values()))

    def add(self, ticket: Ticket) -> None:
        """Put it in its lane."""
        heapq.heappush(self._heaps.setdefault(ticket.lane, []), (ticket.due, next(self._order), ticket))

    def take(self, room: int, batch: list[Piece]) -> int:
        """See `Level.take`: in the lane of the batch, or of the ticket that is due first."""
        lane = batch[0].ticket.lane if batch else self._first_lane()
        heap = self._heaps.get(lane, []) if lane is not None else []
        while room and heap:
            ticket = heap[0][2]
            if ticket.queued:
                count = min(room, ticket.waiting)
                batch.append(Piece(ticket, ticket.taken, ticket.taken + count))
                ticket.taken += count
                room -= count
                if ticket.taken < len(ticket.rows):
                    break
                ticket.queued = False
            heapq.heappop(heap)
        if lane is not None and not heap:
            self._heaps.pop(lane, None)
        return room

    def move(self, ticket: Ticket, lane: Lane) -> None:
        """Put a ticket that is first in its lane into another one."""
        heapq.heappop(self._heaps[ticket.lane])
        ticket.lane = lane
        self.add(ticket)

    def pop_newest(self) -> Ticket | None:
        """See `Level.pop_newest`; it is left where it is until it comes up."""
        return max((ticket for ticket in self.tickets() if not ticket.taken), key=lambda ticket: ticket.enqueued_at, default=None)

    def pop_first(self, hopeless: Callable[[Ticket], bool]) -> list[Ticket]:
        """See `Level.pop_first`."""
        found = []
        for heap in self._heaps.values():
            while heap and (not heap[0][2].queued or (not heap[0][2].taken and hopeless(heap[0][2]))):
                ticket = heapq.heappop(heap)[2]
                if ticket.queued:
                    found.append(ticket)
        return found

    def tickets(self) -> Iterator[Ticket]:
        """See `Level.tickets`."""
        return (ticket for heap in self._heaps.values() for _, _, ticket in heap if ticket.queued)

    def sweep(self) -> None:
        """See `Level.sweep`."""
        for lane, heap in list(self._heaps.items()):
            left = [entry for entry in heap if entry[2].queued]
            heapq.heapify(left)
            if left:
                self._heaps[lane] = left
            else:
                del self._heaps[lane]

    def _first_lane(self) -> Lane | None:
        for heap in self._heaps.values():
            while heap and not heap[0][2].queued:
                heapq.heappop(heap)
        heads = ((heap[0][0], heap[0][1], lane) for lane, heap in self._heaps.items() if heap)
        return min(heads, key=lambda head: head[:2], default=(0.0, 0, None))[2]


class Spans:
    """Rows that wait for a deadline, counted by how much time they were given: in one span the last to come is the last in order.

    Callers use a few deadlines, so that there are a few spans; all rows of one, whatever their number, are looked at as one.
    """

    def __init__(self) -> None:
        self._rows: dict[int, int] = {}
        self._last: dict[int, float] = {}

    def add(self, ticket: Ticket) -> None:
        """Count its rows; those without a deadline are in no one's way."""
        given = ticket.objective - ticket.enqueued_at
        ticket.span = 0 if given == inf else round(SPANS * log2(max(LEAST_SECONDS, given) / LEAST_SECONDS)) + 1
        if ticket.span:
            self._rows[ticket.span] = self._rows.get(ticket.span, 0) + len(ticket.rows)
            self._last[ticket.span] = max(ticket.objective, self._last.get(ticket.span, 0.0))

    def less(self, ticket: Ticket, rows: int) -> None:
        """So many of its rows wait no more."""
        if ticket.span and rows:
            self._rows[ticket.span] -= rows
            if not self._rows[ticket.span]:
                del self._rows[ticket.span], self._last[ticket.span]

    def cumulative(self) -> list[tuple[int, float]]:
        """Rows up to the last deadline of each span, and that deadline; in the order of deadlines."""
        rows, found = 0, []
        for last, span in sorted((last, span) for span, last in self._last.items()):
            rows += self._rows[span]
            found.append((rows, last))
        return found


class DeadlineQueue(RowQueue):
    """See `RowQueue`; within a priority the earliest deadline goes first, whatever the size of its request."""

    def __init__(self, large: int, tally: Tally, chooser: Chooser) -> None:
        super().__init__(large, tally)
        self._lanes = {priority: Lanes() for priority in PRIORITIES}
        self._levels.update(self._lanes)
        self._chooser = chooser
        self._spans = Spans()
        self.chosen = 0.0  # seconds by which those that wait go later, of all choices of a network so far

    @property
    def oldest(self) -> float:
        """When the first of those that wait came; infinity if nobody does."""
        return min((ticket.enqueued_at for lanes in self._lanes.values() for ticket in lanes.tickets()), default=inf)

    @property
    def behind(self) -> list[tuple[int, float]]:
        """Rows that wait for a deadline, as `Leaving.behind` has them, but by the clock."""
        return self._spans.cumulative()

    def add(self, ticket: Ticket, demand: Demand = ANY) -> None:
        """Put a ticket in its lane; raises InvalidRequestError where no network has what it demands."""
        ticket.lane, ticket.chosen = self._chooser.lane(demand), self.chosen
        objective = self._chooser.objective(ticket.enqueued_at)
        ticket.objective = objective if ticket.deadline is None else ticket.deadline
        ticket.due = min(ticket.objective, ticket.enqueued_at + PATIENCE_SECONDS) if ticket.deadline is None else ticket.deadline
        self._lanes[ticket.priority].add(ticket)
        self._spans.add(ticket)
        self._count(ticket.priority, len(ticket.rows))

    def take(self, room: int) -> list[Piece]:
        """Up to `room` rows of one lane, that of the most urgent first."""
        batch = super().take(room)
        for piece in batch:
            self._spans.less(piece.ticket, piece.stop - piece.start)
        return batch

    def keep_together(self, ticket: Ticket, lane: Lane) -> None:
        """Have the rest of a ticket, whose first rows have just been taken, go in another lane."""
        self._lanes[ticket.priority].move(ticket, lane)

    def remove(self, ticket: Ticket) -> None:
        """See `RowQueue.remove`."""
        self._spans.less(ticket, ticket.waiting)
        super().remove(ticket)

    def evict(self, priority: int, most: int) -> list[Ticket]:
        """See `RowQueue.evict`."""
        return self._gone(super().evict(priority, most))

    def drop_first(self, hopeless: Callable[[Ticket], bool]) -> list[Ticket]:
        """See `RowQueue.drop_first`."""
        return self._gone(super().drop_first(hopeless))

    def _gone(self, tickets: list[Ticket]) -> list[Ticket]:
        for ticket in tickets:
            self._spans.less(ticket, len(ticket.rows))
        return tickets
