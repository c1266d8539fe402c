"""What of a long run is there already: a run that was interrupted goes on when the same command is given again."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from resnet_bench.errors import BenchError
from resnet_bench.plane.record import MemberRecord, Point
from resnet_bench.plane.simulated import Right

FILE = "unfinished.jsonl"
Key = tuple[str, str, int]
"""Load, method, seed."""
Trace = tuple[str, int]
"""Load, seed."""


@dataclass(frozen=True)
class Begun:
    """What all parts have in common: the group as it was found, the command, and what members answer to the labelled images (hex bits)."""

    group: str
    arguments: str
    members: tuple[MemberRecord, ...]
    engines: int
    batch: int
    images: int
    right: dict[str, str]

    @property
    def answers(self) -> Right:
        """By label, whether it is right on each image."""
        bits = {label: np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8)) for label, text in self.right.items()}
        return {label: found[: self.images].astype(np.bool_) for label, found in bits.items()}


def packed(right: Right) -> dict[str, str]:
    """As `Begun` has it."""
    return {label: np.packbits(found).tobytes().hex() for label, found in right.items()}


class Parts:
    """The parts in a folder, or in memory alone. Raises BenchError where the folder has those of another command."""

    def __init__(self, folder: Path | None, arguments: str) -> None:
        self._path = None if folder is None else folder / FILE
        self.begun: Begun | None = None
        self._points: dict[Key, Point] = {}
        self._simulated: dict[Trace, list[Point]] = {}
        if self._path is not None and self._path.exists():
            self._read(self._path, arguments)

    def begin(self, begun: Begun) -> Begun:
        """Keep what all parts have in common; what is there already counts."""
        if self.begun is None:
            self.begun = begun
            self._append(asdict(begun))
        return self.begun

    def point(self, key: Key, measure: Callable[[], Point]) -> Point:
        """The point that is there, or a new one."""
        found = self._points.get(key)
        if found is None:
            found = self._points[key] = measure()
            self._append(asdict(found))
        return found

    def simulated(self, trace: Trace, simulate: Callable[[], list[Point]]) -> list[Point]:
        """Those of all ways through a trace, by the simulator: all are there, or none."""
        found = self._simulated.get(trace)
        if found is None:
            found = self._simulated[trace] = simulate()
            self._append(*map(asdict, found))
        return found

    def done(self) -> None:
        """All is measured, and saved elsewhere."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _append(self, *parts: dict[str, object]) -> None:
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(part) + "\n" for part in parts))

    def _read(self, path: Path, arguments: str) -> None:
        try:
            first, *lines = path.read_text(encoding="utf-8").splitlines()
            self.begun = TypeAdapter(Begun).validate_json(first)
            points = [TypeAdapter(Point).validate_json(line) for line in lines]
        except (OSError, ValueError, ValidationError) as error:
            raise BenchError(f"out: {path} cannot be read ({str(error).splitlines()[0]}); delete it to begin anew") from None
        if self.begun.arguments != arguments:
            raise BenchError(f"out: {path} is of `{self.begun.arguments}`; give that command again to go on with it, or delete the file")
        self._points = {(point.load, point.method, point.seed): point for point in points if point.real}
        for point in points:
            if not point.real:
                self._simulated.setdefault((point.load, point.seed), []).append(point)
