"""Calls that came in until a moment, as far as they are not over."""

import asyncio
import contextlib


class Crowd:
    """`come` and `leave` are called on the queue's thread, `gone` on the event loop."""

    __slots__ = ("_empty", "_loop", "_open")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._open = 0
        self._empty: asyncio.Event | None = None

    def come(self) -> None:
        """One more."""
        self._open += 1

    def leave(self) -> None:
        """One is over."""
        self._open -= 1
        if self._empty is not None and not self._open:  # in this order: `gone` has it the other way round
            self._loop.call_soon_threadsafe(self._empty.set)

    async def gone(self, seconds: float) -> None:
        """Return once all are over, or after `seconds`."""
        self._empty = asyncio.Event()
        if self._open:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
