"""Engines and what each has been given: which one takes the next batch, and how many rows of all that are here."""

from collections.abc import Sequence
from dataclasses import dataclass

from resnet_server.engines.api import Engine


@dataclass
class PooledEngine:
    """An engine, whether it was up when it last told, and the number of batches it has."""

    engine: Engine
    up: bool
    running: int = 0


class EnginePool:
    """`grain` and `max_batch` are in rows: below a grain a batch is not worth an engine more while another one computes."""

    def __init__(self, engines: Sequence[Engine], grain: int, max_batch: int) -> None:
        self._engines = [PooledEngine(engine, engine.ready) for engine in engines]
        self._grain, self._max_batch = grain, max_batch

    @property
    def engines(self) -> int:
        """Those that are up."""
        return sum(lane.up for lane in self._engines)

    def update(self, number: int) -> None:
        """An engine has come up or gone; only told under the batcher's lock, so that nothing changes while a batch is shared out."""
        if number < len(self._engines):
            self._engines[number].up = self._engines[number].engine.ready

    def clear(self) -> None:
        """Give nothing to anyone any more."""
        self._engines.clear()

    def free(self) -> PooledEngine | None:
        """The idlest: without a batch, or with room to have the next one laid ready."""
        best = min((lane for lane in self._engines if lane.up), key=lambda lane: lane.running, default=None)
        return None if best is None or best.running >= best.engine.depth else best

    def worth(self, lane: PooledEngine, rows_here: int) -> int:
        """Rows from which a batch is worth giving to a lane: a grain to an idle one, an even share to lie ready at one that computes."""
        return self._between(rows_here // self._places()) if lane.running else self._grain

    def share(self, lane: PooledEngine, rows_here: int) -> int:
        """Rows of a lane's next batch, were all that are here spread evenly: over the engines, or over their places where one computes.

        Of what still waits alone the share would become smaller with each batch: 8 rows would go as 4, 2, 1 and 1.
        """
        return self._between(-(-rows_here // (self._places() if lane.running else self.engines)))

    def _places(self) -> int:
        return sum(lane.engine.depth for lane in self._engines if lane.up)

    def _between(self, rows: int) -> int:
        return min(self._max_batch, max(self._grain, rows))
