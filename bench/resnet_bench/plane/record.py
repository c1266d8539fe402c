"""The plane as data: results.json of `resnet-bench depths --group`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from resnet_bench.errors import BenchError
from resnet_bench.machine import Machine
from resnet_bench.stats import mean_interval

FORMAT = 1
FILE = "results.json"


@dataclass(frozen=True)
class MemberRecord:
    """A network of the group: accuracy 0..1 as certified, and `measured` on the labelled images (None: none were given).

    A batch of n rows takes `fixed` + n * `per_row` seconds on one engine. `served`: images a second that it answered alone, all in
    (None: not measured).
    """

    name: str
    precision: str
    depth: int
    accuracy: float
    fixed: float
    per_row: float
    measured: float | None = None
    served: float | None = None

    @property
    def label(self) -> str:
        """Name and precision."""
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Point:
    """One way to choose on one trace. `in_time`: share of all offered; `accuracy` of those in time, 0..1.

    `method`: "auto", "every second", "oracle" (a bound), or the label of a member that answers everything. `real`: by a server, not the
    simulator. `by_member` counts the answers in time. Two batches in a row by two networks are a switch; the level of `auto`, on which
    batches lean, changes `levels_per_second`.
    """

    load: str
    method: str
    seed: int
    offered: int
    in_time: float
    accuracy: float
    switches_per_second: float | None = None
    by_member: dict[str, int] = field(default_factory=dict)
    real: bool = False
    levels_per_second: float | None = None


@dataclass(frozen=True)
class Untrained:
    """A network with random weights: seconds of so many `calls` of single images, one after the other, median and 99th percentile."""

    name: str
    precision: str
    depth: int
    calls: int
    median: float
    p99: float


@dataclass(frozen=True)
class Plane:
    """All that was found. `deadline` in seconds; `labelled`: images on which accuracy was measured, 0: it is as certified."""

    group: str
    arguments: str
    machine: Machine
    members: tuple[MemberRecord, ...]
    engines: int
    batch: int
    deadline: float
    labelled: int
    points: tuple[Point, ...]
    loads: dict[str, str]
    problems: tuple[str, ...] = ()
    untrained: tuple[Untrained, ...] = ()
    format: int = FORMAT
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def of(self, load: str, method: str, real: bool = False) -> list[Point]:
        """The points of all seeds."""
        return [point for point in self.points if (point.load, point.method, point.real) == (load, method, real)]

    def best_static(self, load: str, real: bool = False) -> str:
        """The member that does best alone: the most accurate of those with 99 % in time, or else the one with the most in time."""
        found = {member.label: mean(self.of(load, member.label, real)) for member in self.members}
        good = [label for label, (in_time, _) in found.items() if in_time >= 0.99]
        return max(good, key=lambda label: found[label][1]) if good else max(found, key=lambda label: found[label][0])

    def gain(self, load: str, over: str, real: bool = False) -> "Difference":
        """How much more often `auto` is right than another way, on the same traces: share of the answers in time, 0..1."""
        other = {point.seed: point for point in self.of(load, over, real)}
        pairs = [(point, other[point.seed]) for point in self.of(load, "auto", real) if point.seed in other]
        gains = [one.accuracy - two.accuracy for one, two in pairs]
        return Difference(sum(gains) / max(1, len(gains)), mean_interval(gains))

    def beaten_by(self, load: str, real: bool = False) -> list[str]:
        """Fixed networks that are in time at least as often as `auto` and as often right, and better in one of these; in the mean."""
        in_time, accuracy = mean(self.of(load, "auto", real))
        found = {member.label: mean(self.of(load, member.label, real)) for member in self.members}
        return [label for label, (x, y) in found.items() if x >= in_time and y >= accuracy and (x, y) != (in_time, accuracy)]

    def save(self, folder: Path) -> Path:
        """Write results.json; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return folder / FILE


@dataclass(frozen=True)
class Difference:
    """Mean over seeds, and its bootstrap's 95 % interval (None: fewer than three seeds)."""

    mean: float
    interval: tuple[float, float] | None

    @property
    def reversed(self) -> "Difference":
        """The other way round."""
        return Difference(-self.mean, None if self.interval is None else (-self.interval[1], -self.interval[0]))

    @property
    def points(self) -> str:
        """In percentage points."""
        low_high = "" if self.interval is None else f" [{100 * self.interval[0]:+.2f}, {100 * self.interval[1]:+.2f}]"
        return f"{100 * self.mean:+.2f}{low_high}"


def load_plane(path: Path) -> Plane:
    """Read what `save` wrote; raises BenchError for anything else."""
    try:
        plane = TypeAdapter(Plane).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BenchError(f"{path}: is no plane of a group ({str(error).splitlines()[0]})") from None
    if plane.format != FORMAT:
        raise BenchError(f"{path}: format {plane.format}; expected {FORMAT}")
    return plane


def mean(points: Sequence[Point]) -> tuple[float, float]:
    """In time and accuracy, in the mean over seeds."""
    count = max(1, len(points))
    return sum(point.in_time for point in points) / count, sum(point.accuracy for point in points) / count
