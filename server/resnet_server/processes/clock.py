"""The server's clock."""

import asyncio
import time
from collections.abc import Callable


class LoopClock:
    """Monotonic time at full resolution, with the running loop's timers; uvloop's own time steps in milliseconds."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        """Seconds since an arbitrary start."""
        return time.monotonic()

    def call_at(self, when: float, callback: Callable[[], object], /) -> asyncio.TimerHandle:
        """Call `callback` once `time()` has reached `when`."""
        return self._loop.call_later(max(0.0, when - time.monotonic()), callback)
