"""What every call passes before anything dear is done for it: is the server open, is there memory, is there room in time."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from resnet_server.batching.held_bytes import HeldBytes
from resnet_server.endpoints.answer_cache import AnswerCache
from resnet_server.endpoints.security.access import Access
from resnet_server.errors import QueueFullError
from resnet_server.models.registry import Registry
from resnet_server.processes.memory import KeptMemory

BEAT_SECONDS, DEAD_SECONDS = 0.5, 10.0
MEMORY_SECONDS, LARGE = 5.0, 1 << 20  # between two looks at the memory that messages of so many bytes left
RETRY_SECONDS = 0.1


class Caller(Protocol):
    """A call, as far as it says who calls."""

    def invocation_metadata(self) -> Any:
        """What the caller sent beside the message, as pairs."""


class Door:
    """One for all methods that compute. `held` is what messages may take in all, in bytes. `chores` are done every BEAT_SECONDS.

    `cache`: answers that are kept, if any are.
    """

    def __init__(
        self,
        registry: Registry,
        held: HeldBytes,
        now: Callable[[], float] = time.monotonic,
        access: Access | None = None,
        cache: AnswerCache | None = None,
    ) -> None:
        self.registry = registry
        self.cache = cache
        self.held = held
        self._now = now
        self.access = access if access is not None else Access(None, open_admin=False)
        self._beat = now()
        self._large_came = False
        self._memory = KeptMemory()
        self.chores: list[Callable[[], None]] = []
        self._tasks: list[asyncio.Task[None]] = []

    def enter(self, message_bytes: int) -> None:
        """Judge a message by its size alone, and take that from the budget; the caller gives it back.

        Raises ModelUnavailableError while loading or draining, and QueueFullError where callers hold as much as they may.
        """
        self.registry.check_open()
        if not self.held.try_take(message_bytes):
            text = f"the server holds {self.held.held} bytes of requests; {message_bytes} more would exceed {self.held.most}"
            raise QueueFullError(text, RETRY_SECONDS)
        if message_bytes >= LARGE:
            self._large_came = True

    def take_rows(self, caller: Caller, rows: int) -> None:
        """Count the rows of a call; raises QuotaError where its token has had its own."""
        if self.access.has_tokens:
            self.access.take_rows(caller.invocation_metadata(), rows)

    @contextlib.contextmanager
    def entered(self, message_bytes: int) -> Iterator[None]:
        """`enter`, and give back at the end."""
        self.enter(message_bytes)
        try:
            yield
        finally:
            self.held.give_back(message_bytes)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Callable[[int], None]]:
        """Judge a message while it comes: gives what takes bytes from the budget as they come; given back at the end.

        Raises what `enter` raises.
        """
        self.registry.check_open()
        taken = 0

        def hold(count: int) -> None:
            nonlocal taken
            self.enter(count)
            taken += count

        try:
            yield hold
        finally:
            self.held.give_back(taken)

    @property
    def is_alive(self) -> bool:
        """False once a batcher's lock has not been free for DEAD_SECONDS: its dispatcher is deadlocked, and only a restart helps."""
        return self._now() - self._beat < DEAD_SECONDS

    def start(self) -> None:
        """Begin to look after the batchers, and after the memory."""
        self._tasks = [asyncio.get_running_loop().create_task(work) for work in (self._look_after(), self._settle())]

    async def close(self) -> None:
        """Stop that."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_after(self) -> None:
        while True:
            if all(model.batcher.is_free() for model in self.registry.ready):
                self._beat = self._now()
            for chore in self.chores:
                chore()
            await asyncio.sleep(BEAT_SECONDS)

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(MEMORY_SECONDS)
            await self.settle_memory()

    async def settle_memory(self) -> None:
        """Give back what large messages left, once none has come since the last time: giving back holds others up, and more may come."""
        large_came, self._large_came = self._large_came, False
        if not large_came:
            await asyncio.to_thread(self._memory.look)
