"""What comes back from the completion queue when a batch of operations is done.

The queue gives a tag back on its thread (`completed`), and the event loop sees it right after (`proceed`), if the tag says so.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from resnet_server.transport.crowd import Crowd


class Home(Protocol):
    """The server of a call, as the call sees it."""

    loop: asyncio.AbstractEventLoop
    crowd: Crowd  # of the calls that come now

    def is_here(self) -> bool:
        """True on the queue's thread."""

    def defer(self, work: Callable[[], None]) -> None:
        """Do `work` once no event is at hand any more; on the queue's thread only."""


class Tag(Protocol):
    """What a batch of operations is known by."""

    def completed(self, event: Any) -> bool:
        """Take what came, on the queue's thread; True if the event loop has something to do."""

    def proceed(self) -> None:
        """Go on, on the event loop."""

    def failed(self) -> None:
        """The batch was refused: neither of the two above will be called. On the thread that started it."""


class Awaited:
    """A batch that somebody on the event loop waits for; `future` has its first operation, or None where it failed."""

    __slots__ = ("_loop", "future", "operation")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.operation: Any = None

    def completed(self, event: Any) -> bool:
        """See `Tag.completed`."""
        self.operation = event.batch_operations[0] if event.success else None
        return True

    def proceed(self) -> None:
        """See `Tag.proceed`."""
        if not self.future.done():
            self.future.set_result(self.operation)

    def failed(self) -> None:
        """See `Tag.failed`."""
        self._loop.call_soon_threadsafe(self.proceed)


class Posted:
    """Work for the queue's thread, done when its tag comes out of the queue."""

    __slots__ = ("_work",)

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work

    def completed(self, event: Any) -> bool:
        """See `Tag.completed`."""
        self._work()
        return False

    def proceed(self) -> None:
        """Never asked for."""

    def failed(self) -> None:
        """Do it here: work must not be lost, and what it touches is locked."""
        self._work()
