"""What `peers` measures: a network, the precisions of ours and of the peers, and the loads, with what is to be reached."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Aim:
    """A load, closed loop: calls in flight, images a call; and the least ratio ours / peer to reach, if one is set."""

    in_flight: int
    rows: int
    least: float | None = None
    p99_no_worse: bool = False


@dataclass(frozen=True)
class Work:
    """One network of `repository`: ours in `ours_precision` (auto: as it chooses), the peers on the file in `precision`."""

    repository: Path
    model: str
    ours_precision: str
    precision: str
    aims: tuple[Aim, ...]
    options: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.model} {self.ours_precision} against {self.precision}"

    @property
    def rows_at_once(self) -> int:
        """The most rows that are open at any time."""
        return max(aim.in_flight * aim.rows for aim in self.aims)
