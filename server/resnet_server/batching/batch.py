"""What the batcher is told and what it tells: its limits, a batch, and the reports of those that ran."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from resnet_server.batching.chooser import Choice, ChosenAnswer
from resnet_server.batching.ticket import Piece, Ticket
from resnet_server.batching.waiter import Answer, Waiter
from resnet_server.engines.api import Images, Logits, Outcome
from resnet_server.errors import EngineError, ServingError

NUMBERS = count(1)
"""Of batches, whichever model's, since the process started."""


@dataclass(frozen=True)
class BatchReport:
    """One batch that ran: rows, tickets, seconds of computing, what was predicted (None: no cost model), and whether it was alone.

    `choice`: in front of a group, which network computed it and why.
    """

    rows: int
    tickets: int
    compute_seconds: float
    predicted_seconds: float | None
    alone: bool = False
    choice: Choice | None = None


@dataclass(eq=False)
class Batch:
    """Pieces of tickets that are computed together, and how many rows these are.

    `alone`: nothing else was here when it was given to an engine. `pressed`: others waited when it left, or it did itself behind another
    one; `held`: seconds from when it was the first at its engine to its end there. `returned`: an engine went before it began this
    batch. `choice` of a group's network, once it leaves, and what this and those before have cost, its own included (`chosen`, seconds).
    """

    pieces: list[Piece]
    rows: int
    alone: bool = False
    pressed: bool = False
    held: float = 0.0
    returned: bool = False
    choice: Choice | None = None
    chosen: float = 0.0
    number: int = field(default_factory=NUMBERS.__next__)

    @property
    def network(self) -> int:
        """The number of the engine's network that computes it."""
        return 0 if self.choice is None else self.choice.network

    @property
    def images(self) -> list[Images]:
        """The rows in their parts, UINT8 [n, h, w, 3] each."""
        return [piece.ticket.rows[piece.start : piece.stop] for piece in self.pieces]

    def waiter(self) -> Waiter | None:
        """One who still waits; None once everybody has left."""
        return next((piece.ticket.waiter for piece in self.pieces if piece.ticket.waiter is not None), None)

    def defect(self, outcome: Outcome) -> ServingError | None:
        """Why the outcome answers nobody, if it does not: its error, or other rows than were asked for."""
        if outcome.error is not None:
            return outcome.error
        found = 0 if outcome.logits is None else len(outcome.logits)
        return None if found == self.rows else EngineError(f"the engine answered {found} rows for {self.rows}")

    def answers(self, logits: Logits, now: float, engine_seconds: float = 0.0) -> Iterator[tuple[Ticket, Answer]]:
        """Hand FP32 [rows, classes] out; the tickets of which all rows are there now, with their answers."""
        offset = 0
        for piece in self.pieces:
            end = offset + piece.stop - piece.start
            answer = piece.ticket.answer(piece.start, logits[offset:end], self.rows, now, self.number, engine_seconds)
            offset = end
            if answer is not None:
                yield piece.ticket, answer if self.choice is None else ChosenAnswer(answer, self.choice)


@dataclass(frozen=True)
class Limits:
    """Rows of one request, of one batch, and of the queue; `max_delay` in seconds, None for the measured rule.

    Below `grain` rows a batch is not worth an engine more while another one computes: handing it over would cost the front end,
    which shares the cores, more than it saves. Where few rows are here, an even share of them is, from `least_grain` on (None: from a
    grain). `sharers` are the front ends that give batches to the same engines. `slowest`: how many times its
    prediction a batch may take before it counts as slow at all.
    """

    max_request: int
    max_batch: int
    max_queue: int
    max_delay: float | None = None
    grain: int = 1
    sharers: int = 1
    slowest: float = 1.0
    least_grain: int | None = None


@dataclass
class Watchers:
    """Called as things happen, under the batcher's lock."""

    on_batch: Callable[[BatchReport], None] = lambda _: None
    on_wait: Callable[[float], None] = lambda _: None
    on_hung: Callable[[], None] = lambda: None
