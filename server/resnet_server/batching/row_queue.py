"""The queue of rows: by priority, then in order; large requests go in pieces, so that small ones never wait behind them."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.tally import Tally
from resnet_server.batching.ticket import Piece, Ticket

HIGH, NORMAL, LOW = 1, 2, 3
PRIORITIES = (HIGH, NORMAL, LOW)
PASSES = 8  # full batches' worth of rows that may overtake a class; then it goes first once, so that none starves
RESERVE = 8  # an eighth of the queue is kept for each class: higher classes can neither fill that part nor evict from it


class Level(Protocol):
    """Tickets of one priority, in the order in which they leave. Some may have left the queue already."""

    def __len__(self) -> int:
        """Including tickets that have left the queue."""

    def take(self, room: int, batch: list[Piece]) -> int:
        """Fill `batch` with up to `room` rows; return the room left."""

    def pop_newest(self) -> Ticket | None:
        """Remove and return the ticket that came last of those of which no row has been taken."""

    def pop_first(self, hopeless: Callable[[Ticket], bool]) -> list[Ticket]:
        """Remove from the head those that are hopeless and of which no row has been taken, and return them."""

    def tickets(self) -> Iterator[Ticket]:
        """Those that are queued."""

    def sweep(self) -> None:
        """Drop tickets that have left the queue."""


class _Level:
    """Small tickets, and those larger than a batch, which get every other batch."""

    def __init__(self) -> None:
        self.small: deque[Ticket] = deque()
        self.large: deque[Ticket] = deque()
        self.large_next = False

    def __len__(self) -> int:
        return len(self.small) + len(self.large)

    def take(self, room: int, batch: list[Piece]) -> int:
        """See `Level.take`."""
        lines = (self.large, self.small) if self.large_next else (self.small, self.large)
        if self.small and self.large:
            self.large_next = not self.large_next
        for line in lines:
            room = _take_from(line, room, batch)
        return room

    def pop_newest(self) -> Ticket | None:
        """See `Level.pop_newest`."""
        newest: deque[Ticket] | None = None
        for line in (self.small, self.large):
            while line and not line[-1].queued:
                line.pop()
            if line and not line[-1].taken and (newest is None or line[-1].enqueued_at > newest[-1].enqueued_at):
                newest = line
        return None if newest is None else newest.pop()

    def pop_first(self, hopeless: Callable[[Ticket], bool]) -> list[Ticket]:
        """See `Level.pop_first`."""
        found = []
        for line in (self.small, self.large):
            while line and (not line[0].queued or (not line[0].taken and hopeless(line[0]))):
                ticket = line.popleft()
                if ticket.queued:
                    found.append(ticket)
        return found

    def tickets(self) -> Iterator[Ticket]:
        """See `Level.tickets`."""
        return (ticket for line in (self.small, self.large) for ticket in line if ticket.queued)

    def sweep(self) -> None:
        """See `Level.sweep`."""
        self.small = deque(ticket for ticket in self.small if ticket.queued)
        self.large = deque(ticket for ticket in self.large if ticket.queued)


def _take_from(line: deque[Ticket], room: int, batch: list[Piece]) -> int:
    while room and line:
        ticket = line[0]
        if ticket.queued:
            count = min(room, ticket.waiting)
            batch.append(Piece(ticket, ticket.taken, ticket.taken + count))
            ticket.taken += count
            room -= count
            if ticket.taken < len(ticket.rows):
                break
            ticket.queued = False
        line.popleft()
    return room


class RowQueue:
    """Tickets that wait; `large` is the number of rows above which a request counts as large.

    Bounds are common to all front ends that share `tally`; order, share and eviction are within this one.
    """

    def __init__(self, large: int, tally: Tally) -> None:
        self._large = large
        self._tally = tally
        self._lines = {priority: _Level() for priority in PRIORITIES}
        self._levels: dict[int, Level] = dict(self._lines)
        self._rows = dict.fromkeys(PRIORITIES, 0)
        self._passed = dict.fromkeys(PRIORITIES, 0)
        self._abandoned = 0
        self.rows = 0

    def __len__(self) -> int:
        """Tickets held, with the abandoned ones that are not swept yet."""
        return sum(map(len, self._levels.values()))

    def rows_before(self, priority: int) -> int:
        """Rows that would run before a new ticket of `priority`."""
        return sum(rows + self._tally.others(level) for level, rows in self._rows.items() if level <= priority)

    @property
    def oldest(self) -> float:
        """When the first of those that wait came; infinity if nobody does."""
        heads = (next((t for t in line if t.queued), None) for level in self._lines.values() for line in (level.small, level.large))
        return min((ticket.enqueued_at for ticket in heads if ticket is not None), default=float("inf"))

    def add(self, ticket: Ticket, demand: Demand = ANY) -> None:
        """Append a ticket to its line; what it demands of the network counts in the queue of a group only."""
        level = self._lines[ticket.priority]
        (level.large if len(ticket.rows) > self._large else level.small).append(ticket)
        self._count(ticket.priority, len(ticket.rows))

    def take(self, room: int) -> list[Piece]:
        """Up to `room` rows, the most urgent first; but a class that PASSES full batches have overtaken goes before all others."""
        batch: list[Piece] = []
        wanted = room
        for priority in sorted(PRIORITIES, key=self._is_patient):
            if room and self._rows[priority]:
                before = room
                room = self._levels[priority].take(room, batch)
                self._count(priority, room - before)
                self._passed[priority] = 0 if room < before else self._passed[priority] + wanted
            elif self._rows[priority]:
                self._passed[priority] += wanted
        return batch

    def has_room(self, rows: int, priority: int, most: int) -> bool:
        """Whether `rows` more fit into `most` if lower classes are evicted down to their reserve; a reserve is for its class alone."""
        reserve = most // RESERVE
        lower = sum(min(count + self._tally.others(level), reserve) for level, count in self._rows.items() if level > priority)
        own = self._rows[priority] + self._tally.others(priority)
        return self.rows_before(priority) + lower + rows <= most or (priority > HIGH and own + rows <= reserve)

    @property
    def others_rows(self) -> int:
        """Rows that wait in other front ends."""
        return sum(self._tally.others(level) for level in PRIORITIES)

    def evict(self, priority: int, most: int) -> list[Ticket]:
        """Remove the newest tickets of classes lower than `priority`, the lowest first, until at most `most` rows are left; return them."""
        evicted, most_here = [], most - self.others_rows
        for level in reversed(PRIORITIES):
            while level > priority and self.rows > most_here and self._rows[level] > most // RESERVE:
                ticket = self._levels[level].pop_newest()
                if ticket is None:
                    break
                self._count(level, -ticket.waiting)
                ticket.queued = False
                evicted.append(ticket)
        return evicted

    def _is_patient(self, priority: int) -> bool:
        return self._passed[priority] < PASSES * self._large or not self._rows[priority]

    def remove(self, ticket: Ticket) -> None:
        """Give back the room of a ticket that no longer waits; its line drops it at the head, or when half are such."""
        if not ticket.queued:
            return
        self._count(ticket.priority, -ticket.waiting)
        ticket.queued = False
        self._abandoned += 1
        if self._abandoned > len(self) // 2:  # cancelled requests must not hold their rows behind a slow batch
            for level in self._levels.values():
                level.sweep()
            self._abandoned = 0

    def drop_first(self, hopeless: Callable[[Ticket], bool]) -> list[Ticket]:
        """Remove and return the tickets at the head of each line that are too late and of which no row has been taken."""
        dropped = []
        for priority, level in self._levels.items():
            for ticket in level.pop_first(hopeless) if self._rows[priority] else ():
                self._count(ticket.priority, -ticket.waiting)
                ticket.queued = False
                dropped.append(ticket)
        return dropped

    def drop_all(self) -> list[Ticket]:
        """Empty the queue and return who waited."""
        left = [ticket for level in self._levels.values() for ticket in level.tickets()]
        for ticket in left:
            self.remove(ticket)
        return left

    def _count(self, priority: int, rows: int) -> None:
        self._rows[priority] += rows
        self.rows += rows
        self._tally.tell(priority, self._rows[priority])
