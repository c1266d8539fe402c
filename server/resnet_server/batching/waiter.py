"""Who waits for rows to be computed: the batcher's side of a call, wherever that lives."""

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from resnet_server.engines.api import Logits
from resnet_server.errors import ServingError

Work = Callable[[], None]


class Answer:
    """`logits` FP32 [rows, classes] of one ticket, and how it came to be; `batch_rows` is of its largest batch.

    `compute_seconds`: from leaving the queue to its answer; `batch` is the number of its last one, which took `engine_seconds` there; 0
    for an answer that was kept from earlier. One is made for each call, and a frozen dataclass takes four times as long to make.
    """

    __slots__ = ("batch", "batch_rows", "compute_seconds", "engine_seconds", "logits", "queue_seconds")

    def __init__(
        self, logits: Logits, batch_rows: int, queue_seconds: float, compute_seconds: float, batch: int, engine_seconds: float
    ) -> None:
        self.logits = logits
        self.batch_rows = batch_rows
        self.queue_seconds = queue_seconds
        self.compute_seconds = compute_seconds
        self.batch = batch
        self.engine_seconds = engine_seconds


class Waiter(Protocol):
    """Waits for one outcome, on an event loop or on a thread of its own. None of this may raise."""

    def settle(self, outcome: Answer | ServingError) -> None:
        """Take the outcome; called once, on any thread, unless the waiter has left."""

    def post(self, work: Work) -> None:
        """Do `work` where this waiter lives: now, if it is called there, and soon otherwise."""

    def defer(self, work: Work) -> None:
        """Do `work` once the requests that came together with this one are queued; called where it lives."""


class LoopWaiter:
    """Lives on the running event loop; `future` has the outcome, as `Answer` or as exception."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self.future: asyncio.Future[Answer] = self._loop.create_future()

    def settle(self, outcome: Answer | ServingError) -> None:
        """See `Waiter.settle`."""
        self.post(lambda: self._resolve(outcome))

    def post(self, work: Work) -> None:
        """See `Waiter.post`."""
        if threading.get_ident() == self._thread_id:
            work()
        else:
            self._loop.call_soon_threadsafe(work)

    def defer(self, work: Work) -> None:
        """See `Waiter.defer`."""
        self._loop.call_soon(work)

    def _resolve(self, outcome: Answer | ServingError) -> None:
        if self.future.done():  # cancelled: whoever waited has left
            return
        if isinstance(outcome, ServingError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
