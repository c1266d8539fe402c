"""Instances: the engines of one model, and the batches that each has; which takes the next one, and how many rows of all."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from resnet_server.batching.batch import Batch
from resnet_server.batching.tally import RUNNING, Tally
from resnet_server.engines.api import Engine


@dataclass(eq=False)
class Run:
    """A batch at an engine: when it became the first there, and for how many seconds the watchdog has seen it there."""

    batch: Batch
    first_since: float
    watched: float = 0.0


@dataclass(eq=False)
class Instance:
    """An engine and the batches it has. Its state is as it last told, under the batcher's lock.

    `suspected`: a batch hangs in it; it gets no other until it has started again or has ended that batch.
    """

    engine: Engine
    up: bool
    suspected: bool = False
    runs: deque[Run] = field(default_factory=deque)

    @property
    def usable(self) -> bool:
        """Whether it takes batches."""
        return self.up and not self.suspected


class EnginePool:
    """`grain`, `least_grain` and `max_batch` are in rows; see `Limits`."""

    def __init__(self, engines: Sequence[Engine], grain: int, max_batch: int, tally: Tally, least_grain: int | None = None) -> None:
        self.instances = [Instance(engine, engine.ready) for engine in engines]
        self._grain, self._max_batch = grain, max_batch
        self._least_grain = grain if least_grain is None else min(least_grain, grain)
        self._tally = tally
        self.running_rows = 0  # at all engines, but for those that are suspected

    @property
    def engines(self) -> int:
        """Those that take batches."""
        return sum(instance.usable for instance in self.instances)

    def begin(self, instance: Instance, run: Run) -> None:
        """An engine is given a batch."""
        instance.runs.append(run)
        self._count(run.batch.rows)

    def end(self, instance: Instance, run: Run, now: float) -> bool:
        """It has ended the batch; False if that had been given up before."""
        if run not in instance.runs:
            instance.suspected = False
            return False
        instance.runs.remove(run)
        self._count(-run.batch.rows)
        if instance.runs:
            instance.runs[0].first_since = max(now, instance.runs[0].first_since)
        return True

    def suspect(self, instance: Instance) -> list[Batch]:
        """Give it no more batches; returns those that it has, the one that hangs first."""
        batches = [run.batch for run in instance.runs]
        instance.runs.clear()
        instance.suspected = True
        self._count(-sum(batch.rows for batch in batches))
        return batches

    def clear(self) -> None:
        """Hand out no more batches."""
        self.instances.clear()

    def computing(self, now: float, usual: float) -> bool:
        """Whether a batch runs that has not taken longer than `usual` seconds."""
        return any(instance.runs and now - instance.runs[0].first_since < usual for instance in self.instances)

    def free(self) -> Instance | None:
        """The idlest: without a batch, or with room to have the next one laid ready."""
        best = min((instance for instance in self.instances if instance.usable), key=lambda instance: len(instance.runs), default=None)
        return None if best is None or len(best.runs) >= best.engine.depth else best

    def worth(self, instance: Instance, rows_here: int) -> int:
        """Rows from which a batch is worth giving: to an idle engine a grain, or an even share if that is less; to another one a share."""
        if instance.runs:
            return self._between(rows_here // self._places())
        return min(self._grain, max(self._least_grain, -(-rows_here // self._places())))

    def share(self, instance: Instance, rows_here: int) -> int:
        """Rows of the next batch, were all that are here spread evenly: over the engines, or over their places where one computes.

        Of what still waits alone the share would become smaller with each batch: 8 rows would go as 4, 2, 1 and 1.
        """
        return self._between(-(-rows_here // (self._places() if instance.runs else self.engines)))

    @property
    def others_rows(self) -> int:
        """Rows that other front ends have at the same engines."""
        return self._tally.others(RUNNING)

    def _count(self, rows: int) -> None:
        self.running_rows += rows
        self._tally.tell(RUNNING, self.running_rows)

    def _places(self) -> int:
        return sum(instance.engine.depth for instance in self.instances if instance.usable)

    def _between(self, rows: int) -> int:
        return min(self._max_batch, max(self._grain, rows))
