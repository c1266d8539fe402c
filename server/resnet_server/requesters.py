"""Who waits for rows to be computed: the batcher's side of a call, wherever that lives."""

import asyncio
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from resnet_server.errors import ServingError

if TYPE_CHECKING:
    from resnet_server.queueing import Answer

Work = Callable[[], None]


class Requester(Protocol):
    """Waits for one outcome, on an event loop or on a thread of its own. None of this may raise."""

    def settle(self, outcome: "Answer | ServingError") -> None:
        """Take the outcome; called once, on any thread, unless the requester has left."""

    def post(self, work: Work) -> None:
        """Do `work` where this requester lives: now, if it is called there, and soon otherwise."""

    def defer(self, work: Work) -> None:
        """Do `work` once the requests that came together with this one are queued; called where it lives."""


class LoopRequester:
    """Lives on the running event loop; `future` has the outcome, as `Answer` or as exception."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self.future: asyncio.Future[Answer] = self._loop.create_future()

    def settle(self, outcome: "Answer | ServingError") -> None:
        """See `Requester.settle`."""
        self.post(lambda: self._resolve(outcome))

    def post(self, work: Work) -> None:
        """See `Requester.post`."""
        if threading.get_ident() == self._thread:
            work()
        else:
            self._loop.call_soon_threadsafe(work)

    def defer(self, work: Work) -> None:
        """See `Requester.defer`."""
        self._loop.call_soon(work)

    def _resolve(self, outcome: "Answer | ServingError") -> None:
        if self.future.done():  # cancelled: whoever waited has left
            return
        if isinstance(outcome, ServingError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
