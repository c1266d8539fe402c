"""What callers give as arrays to infer, and the raw rows that are sent."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from resnet_client.errors import InvalidInputError
from resnet_client.inputs import Pixels

Arrays: TypeAlias = Pixels | Iterable[Pixels]
"""UINT8 [n, h, w, 3], [h, w, 3], or any iterable of these; all of one size."""


@dataclass(frozen=True)
class Rows:
    """UINT8 [n, h, w, 3], whose first row is the caller's row `start`."""

    start: int
    pixels: Pixels


def each_array(images: Arrays) -> Iterator[Pixels]:
    """The arrays of any accepted form."""
    return iter(images) if isinstance(images, Iterable) and not isinstance(images, np.ndarray) else iter([images])


def is_single(images: Arrays) -> bool:
    """True for one row, which needs no row limit."""
    return isinstance(images, np.ndarray) and (images.ndim == 3 or len(images) == 1)


class RowParts:
    """Groups arrays into calls of at most `rows` rows and `max_bytes`, in order."""

    def __init__(self, rows: int, max_bytes: int) -> None:
        self._rows, self._max_bytes = rows, max_bytes
        self._held: list[Pixels] = []
        self._start = 0
        self._shape: tuple[int, ...] | None = None

    def add(self, array: Any) -> Iterator[Rows]:
        """The calls that are complete now; raise InvalidInputError for another dtype, rank or size."""
        batch = self._checked(array)
        self._shape = batch.shape[1:]
        rows = max(1, min(self._rows, self._max_bytes // batch[0].nbytes))
        while sum(map(len, self._held)) + len(batch) > rows:
            room = rows - sum(map(len, self._held))
            self._held.append(batch[:room])
            batch = batch[room:]
            yield from self.rest()
        self._held.append(batch)

    def rest(self) -> Iterator[Rows]:
        """What is left."""
        held = [batch for batch in self._held if len(batch)]
        self._held = []
        if held:
            rows = Rows(self._start, held[0] if len(held) == 1 else np.concatenate(held))
            self._start += len(rows.pixels)
            yield rows

    def _checked(self, array: Any) -> Pixels:
        found: Any = array if isinstance(array, np.ndarray) else np.empty(0, np.object_)
        batch: Pixels = found[np.newaxis] if found.ndim == 3 else found
        if batch.dtype != np.uint8 or batch.ndim != 4 or not batch.size:
            shown = f"{found.dtype} {list(found.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
            raise InvalidInputError(f"images: {shown}; expected uint8 [n, h, w, 3] with n at least 1, or [h, w, 3]")
        if self._shape not in (None, batch.shape[1:]):
            raise InvalidInputError(f"images: {list(batch.shape[1:])} after {list(self._shape or ())}; expected one size")
        return batch
