"""What the Open Inference Protocol's ModelStatistics counts, per model and version, from the same notes that Prometheus is fed with."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Key = tuple[str, str]


@dataclass(slots=True)
class Duration:
    """How often, and how long in all, in seconds."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """`count` times, `seconds` each."""
        self.count += count
        self.seconds += seconds * count


@dataclass(slots=True)
class ModelCounts:
    """Of one version, all its precisions together, since the process started.

    `success`, `fail`: calls that computed or were to. `queue`, `compute`: of each request that was computed; the latter is its
    batch's time. `batches`: by rows. `last`: seconds since 1970, 0 before the first batch.
    """

    success: Duration = field(default_factory=Duration)
    fail: Duration = field(default_factory=Duration)
    queue: Duration = field(default_factory=Duration)
    compute: Duration = field(default_factory=Duration)
    cache_hit: Duration = field(default_factory=Duration)
    cache_miss: Duration = field(default_factory=Duration)
    batches: dict[int, Duration] = field(default_factory=dict)
    last: float = 0.0

    @property
    def images(self) -> int:
        """Rows computed."""
        return sum(rows * batch.count for rows, batch in self.batches.items())

    @property
    def executions(self) -> int:
        """Batches computed."""
        return sum(batch.count for batch in self.batches.values())


class Statistics:
    """Counts of all models. Notes may be counted on several threads."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._counts: dict[Key, ModelCounts] = {}

    def of(self, key: Key) -> ModelCounts:
        """The counts of a name and version, which go on; zeros for one that nobody called."""
        with self._lock:
            return self._counts.setdefault(key, ModelCounts())

    def forget(self, key: Key) -> None:
        """A version that is gone for good: if it comes again, it begins at 0."""
        with self._lock:
            self._counts.pop(key, None)

    def call_counter(self, key: Key, answered: bool) -> Callable[[float], None]:
        """Counts a call of so many seconds."""
        counts = self.of(key)
        return self._locked((counts.success if answered else counts.fail).add)

    def wait_counter(self, key: Key) -> Callable[[float], None]:
        """Counts a request's seconds in the queue."""
        return self._locked(self.of(key).queue.add)

    def cache_counter(self, key: Key, hit: bool) -> Callable[[float], None]:
        """Counts a look into the cache of answers."""
        counts = self.of(key)
        return self._locked((counts.cache_hit if hit else counts.cache_miss).add)

    def batch_counter(self, key: Key, rows: int, requests: int) -> Callable[[float], None]:
        """Counts a batch of so many seconds."""
        counts = self.of(key)
        with self._lock:
            batch = counts.batches.setdefault(rows, Duration())

        def add(seconds: float) -> None:
            batch.add(seconds)
            counts.compute.add(seconds, requests)

        return self._locked(add)

    def batch_ended(self, key: Key) -> None:
        """Remember when: notes are counted late, and this must not be."""
        self.of(key).last = self._now()

    def _locked(self, add: Callable[[float], None]) -> Callable[[float], None]:
        def locked(seconds: float) -> None:
            with self._lock:
                add(seconds)

        return locked
