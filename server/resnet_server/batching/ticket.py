"""Rows that wait for an answer, and the pieces of them that go in one batch."""

import numpy as np

from resnet_server.batching.chooser import Lane
from resnet_server.batching.waiter import Answer, Waiter
from resnet_server.engines.api import Images, Logits


class Ticket:
    """Rows waiting for an answer. Once they are `over`, answered or left by whoever waited, they have no `waiter` any more.

    In the queue of a group, and only there: the `lane`, when it is `due` in the order of the queue, its `objective` (infinite for none),
    the `span` that is counted under, and the seconds that choices had cost (`chosen`) when it came.
    """

    lane: Lane
    due: float
    objective: float
    span: int
    chosen: float

    __slots__ = (
        "batch_rows",
        "chosen",
        "deadline",
        "due",
        "enqueued_at",
        "lane",
        "logits",
        "objective",
        "over",
        "priority",
        "promised",
        "queued",
        "rows",
        "span",
        "started_at",
        "taken",
        "unanswered",
        "waiter",
    )

    def __init__(self, rows: Images, enqueued_at: float, priority: int, waiter: Waiter) -> None:
        self.rows = rows
        self.enqueued_at = enqueued_at
        self.priority = priority
        self.waiter: Waiter | None = waiter
        self.over = False
        self.queued = True
        self.taken = 0
        self.unanswered = len(rows)
        self.started_at = 0.0
        self.batch_rows = 0
        self.deadline: float | None = None
        self.promised: float | None = None
        self.logits: Logits | None = None

    @property
    def waiting(self) -> int:
        """Rows not yet in a batch."""
        return len(self.rows) - self.taken if self.queued else 0

    def answer(self, start: int, logits: Logits, batch_rows: int, now: float, batch: int = 0, engine_seconds: float = 0.0) -> Answer | None:
        """Take the logits of the rows from `start`, computed by a batch; the answer once all are there."""
        self.unanswered -= len(logits)
        self.batch_rows = max(self.batch_rows, batch_rows)
        if self.logits is None and self.unanswered:
            self.logits = np.empty((len(self.rows), logits.shape[1]), np.float32)
        if self.logits is not None:
            self.logits[start : start + len(logits)] = logits
            logits = self.logits
        if self.unanswered:
            return None
        return Answer(logits, self.batch_rows, self.started_at - self.enqueued_at, now - self.started_at, batch, engine_seconds)


class Piece:
    """Rows `start` to `stop` of a ticket."""

    __slots__ = ("start", "stop", "ticket")

    def __init__(self, ticket: Ticket, start: int, stop: int) -> None:
        self.ticket = ticket
        self.start = start
        self.stop = stop
