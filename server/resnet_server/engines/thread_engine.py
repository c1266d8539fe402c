"""An engine in this process: a thread and an input slot.

ONNX Runtime releases the GIL while it computes, so the event loop goes on; but the two still contend for it between batches.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from resnet_server.engines.api import EngineSpec, Images, Outcome
from resnet_server.engines.compute import Compute
from resnet_server.errors import EngineError, ServingError


class ThreadEngine:
    """Runs one batch at a time on a thread of its own."""

    depth = 1
    ready = True

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.pid = 0
        self._slot = spec.blank()
        self._thread = ThreadPoolExecutor(1, "engine")
        self._networks: list[Compute] = []
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        """Open the sessions and warm every bucket; raise EngineError if that fails."""

        def open_and_warm() -> None:
            self._networks = [Compute(spec) for spec in self.spec.networks]
            for number, network in enumerate(self._networks):
                network.warm_up(self.spec.blank() if number else self._slot)  # a slot is pinned once

        await asyncio.get_running_loop().run_in_executor(self._thread, open_and_warm)

    def watch(self, changed: Callable[[], None]) -> None:
        """Nothing to tell: it is ready until it is closed."""

    def kill(self) -> None:
        """A thread cannot be ended: it gets no other batch until the one that hangs is over."""

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        """See `Engine.start`."""
        self._thread.submit(lambda: self._loop.call_soon_threadsafe(done, self._run(parts, rows, alone, network)))

    def _run(self, parts: Sequence[Images], rows: int, alone: bool, network: int) -> Outcome:
        try:
            if not self._networks:
                raise EngineError("the engine is closed")
            np.concatenate(parts, out=self._slot[:rows])
            started = time.perf_counter()
            return Outcome(self._networks[network].run(self._slot, rows, alone), time.perf_counter() - started)
        except ServingError as error:
            return Outcome(error=error)
        except Exception as error:  # whatever goes wrong, the callers are answered and the queue goes on
            return Outcome(error=EngineError(f"the engine failed: {error}"))

    async def close(self) -> None:
        """Wait for the running batch and free the sessions."""
        await asyncio.to_thread(self._thread.shutdown)
        self._networks = []
