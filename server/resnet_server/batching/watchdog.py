"""Engines in which a batch hangs: one that has taken many times what the cost model predicts."""

from collections.abc import Callable

from resnet_server.batching.engine_pool import EnginePool, Instance

TICK = 0.25  # seconds between two looks
LEAST_SECONDS, TIMES = 1.0, 10.0  # a second, in which any process gets its turn on a busy machine, and ten times the prediction
SLOW_SECONDS, SLOW_TIMES = 0.05, 4.0  # from here on the batch no longer counts as one that others should wait for
NEVER = float("inf")


class Watchdog:
    """Looks every TICK seconds while batches run. `expected` predicts the seconds of a full batch; None: nothing is known.

    Time in which this process stood still itself, with the machine or stopped by hand, counts as one tick.
    """

    def __init__(self, pool: EnginePool, expected: Callable[[], float] | None) -> None:
        self._pool = pool
        self._expected = expected
        self._looked = 0.0
        self.next_look = NEVER

    @property
    def usual(self) -> float:
        """Seconds after which a batch counts as slow."""
        return NEVER if self._expected is None else SLOW_SECONDS + SLOW_TIMES * self._expected()

    def begin(self, now: float) -> float:
        """A batch was given to an engine; returns when to look."""
        if self.next_look == NEVER and self._expected is not None:
            self._looked, self.next_look = now, now + TICK
        return self.next_look

    def look(self, now: float) -> list[Instance]:
        """The engines that hang; to be called at `next_look`."""
        if now < self.next_look or self._expected is None:
            return []
        step, limit = min(now - self._looked, TICK), LEAST_SECONDS + TIMES * self._expected()
        self._looked = now
        busy = [instance for instance in self._pool.instances if instance.runs]
        for instance in busy:
            instance.runs[0].watched += min(step, max(0.0, now - instance.runs[0].first_since))
        self.next_look = now + TICK if busy else NEVER
        return [instance for instance in busy if instance.runs[0].watched > limit]
