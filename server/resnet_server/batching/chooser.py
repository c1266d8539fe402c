"""Which of several networks computes a batch: what a batcher in front of a group asks, and what it is told."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from resnet_server.batching.waiter import Answer

NEVER = float("inf")


@dataclass(frozen=True)
class Demand:
    """What a request asks of the network that answers: an accuracy of at least so much, 0..1, and at most so many layers; 0: any."""

    min_accuracy: float = 0.0
    max_depth: int = 0


ANY = Demand()


@dataclass(frozen=True, eq=False)
class Choice:
    """A network by its number, and why it answers: one object for each pair."""

    network: int
    reason: str


@dataclass(frozen=True, eq=False)
class Lane:
    """Requests that accept the same networks, and may share a batch. The cheapest of these costs `times` what the cheapest of all does.

    `choice`: decided already, for the rest of a request whose first rows have left.
    """

    demand: Demand = ANY
    times: float = 1.0
    choice: Choice | None = None


class Leaving(NamedTuple):
    """A batch as it leaves: `slack` seconds until its most urgent deadline, less what runs before it on its engine.

    The rows are of `calls` requests; `waiting` rows stay behind. `behind`: those of them that wait for a deadline, and until
    the last of these in seconds, likewise; cumulative, in the order of deadlines. `engines` that are up, of which a
    front end that shares them counts its part.
    """

    rows: int
    lane: Lane
    slack: float
    waiting: int
    behind: Sequence[tuple[int, float]]
    engines: float
    calls: int = 1


class Chooser(Protocol):
    """Decides, and learns. All but `lane` is called under the batcher's lock."""

    def lane(self, demand: Demand) -> Lane:
        """The lane of such requests, always the same one. Raises InvalidRequestError where no network has what is asked for."""

    def rest(self, choice: Choice) -> Lane:
        """The lane of requests that this choice has begun to answer."""

    def arrived(self, now: float, rows: int) -> None:
        """Rows came, and were queued or refused for want of time or room."""

    def objective(self, enqueued_at: float) -> float:
        """When a request without a deadline should be answered; infinite where it may take its time."""

    def choose(self, now: float, leaving: Leaving) -> Choice:
        """Which network computes the batch that leaves now, and why."""

    def seconds(self, choice: Choice, rows: int) -> float:
        """For a batch of `rows`, as the machine is now, with what serving them takes."""

    def times(self, choice: Choice, rows: int) -> float:
        """What a batch costs, as a multiple of what it costs on the cheapest network."""

    def surplus(self, choice: Choice, rows: int) -> float:
        """Seconds that a batch takes beyond those of the cheapest network."""

    def longest(self, rows: int) -> float:
        """`times` of the dearest network."""

    def observe(self, choice: Choice, rows: int, seconds: float, alone: bool, held: float | None) -> None:
        """Learn from a batch that computed for `seconds`. `held`: for how long it had its engine, where others waited meanwhile."""


class ChosenAnswer(Answer):
    """An answer, and which network gave it."""

    __slots__ = ("choice",)

    def __init__(self, answer: Answer, choice: Choice) -> None:
        super().__init__(
            answer.logits, answer.batch_rows, answer.queue_seconds, answer.compute_seconds, answer.batch, answer.engine_seconds
        )
        self.choice = choice
