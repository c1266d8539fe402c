"""What the batcher is told and what it tells: its limits, a batch, and the reports of those that ran."""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_server.batching.row_queue import Piece
from resnet_server.batching.waiter import Waiter


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran: rows, tickets, seconds of computing, and what the cost model had predicted (None: without one)."""

    rows: int
    tickets: int
    compute_seconds: float
    predicted_seconds: float | None


@dataclass(eq=False)
class Batch:
    """Pieces of tickets that are computed together, and how many rows these are."""

    pieces: list[Piece]
    rows: int

    def waiter(self) -> Waiter | None:
        """One who still waits; None once everybody has left."""
        return next((piece.ticket.waiter for piece in self.pieces if piece.ticket.waiter is not None), None)


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
    """Called as things happen, under the batcher's lock."""

    on_batch: Callable[[BatchReport], None] = lambda _: None
    on_wait: Callable[[float], None] = lambda _: None
