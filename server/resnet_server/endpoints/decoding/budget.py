"""Memory for what is decoded: who asks for more than is left waits, in turn."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class WaitingBudget:
    """`most` bytes; on one event loop. A large image is not overtaken by small ones for ever: first come, first served."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextlib.asynccontextmanager
    async def taken(self, count: int) -> AsyncIterator[None]:
        """Wait for `count` bytes, at most `most`, and give them back at the end."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((count, turn))
        self._serve()
        try:
            await turn
            yield
        finally:
            if turn.done() and not turn.cancelled():
                self.held -= count
            else:
                turn.cancel()
            self._serve()

    def _serve(self) -> None:
        while self._waiting:
            count, turn = self._waiting[0]
            if not turn.done() and self.held and self.held + count > self.most:
                return
            self._waiting.popleft()
            if not turn.done():
                self.held += count
                turn.set_result(None)
