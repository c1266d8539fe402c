"""How tickets end: each once, with whoever waits told after the batcher's lock is released."""

from resnet_server.batching.deadlines import Deadlines
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.waiter import Answer, Waiter
from resnet_server.errors import ServingError

Outcomes = list[tuple[Waiter, Answer | ServingError]]


class Settlement:
    """Collects outcomes under the batcher's lock, and keeps `deadlines` in step."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._outcomes: Outcomes = []

    def end(self, ticket: Ticket, outcome: Answer | ServingError) -> None:
        """Have its waiter told, unless it is over: a neighbour that left must not strand the others."""
        waiter = ticket.waiter
        if waiter is not None and self.close(ticket):
            self._outcomes.append((waiter, outcome))

    def close(self, ticket: Ticket) -> bool:
        """Let it be over, with nobody told; False if it was."""
        if ticket.over:
            return False
        ticket.over, ticket.waiter = True, None
        if ticket.deadline is not None:
            self._deadlines.forget()
        return True

    def take(self) -> Outcomes:
        """The callers to tell, and what, once the lock is released."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes


def tell(outcomes: Outcomes) -> None:
    """Each its own; without the lock, since telling takes its time."""
    for waiter, outcome in outcomes:
        waiter.settle(outcome)
