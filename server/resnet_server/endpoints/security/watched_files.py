"""What is read from files, and read again when they change."""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from resnet_server.errors import StartError

log = logging.getLogger(__name__)

T = TypeVar("T")
State = tuple[tuple[int, int, int] | None, ...]
MOST_TRIES = 3


class WatchedFiles(Generic[T]):
    """`current` gives what `read` made of the files as they are now, looking at them at most every `every` seconds.

    `read` raises StartError for files that are wrong: at the first reading it is raised here, later the value before stays in use,
    and the log and `on_read(False)` say so, once for each state of the files. Several threads may ask.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        read: Callable[[], T],
        on_read: Callable[[bool], None] = lambda _: None,
        every: float = 0.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._paths, self._read, self._on_read = name, paths, read, on_read
        self._every, self._now = every, now
        self._lock = threading.Lock()
        self._looked = now()
        self._seen = state_of(paths)
        self._value = self._whole()

    def current(self) -> T:
        """The value; reads where the files have changed, on one thread, while others go on with the value before."""
        if self._now() - self._looked >= self._every and self._lock.acquire(blocking=False):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._value

    def _look(self) -> None:
        self._looked = self._now()
        state = state_of(self._paths)
        if state == self._seen:
            return
        self._seen = state
        try:
            self._value = self._whole()
        except StartError as error:
            log.error("%s: what was read before stays in use: %s", self._name, error)
            self._on_read(False)
        else:
            log.info("%s: read again", self._name)
            self._on_read(True)

    def _whole(self) -> T:
        """Read until the files did not change meanwhile: a certificate and its key are replaced one after the other."""
        for _ in range(MOST_TRIES):
            before = state_of(self._paths)
            value = self._read()
            if state_of(self._paths) == before:
                break
        self._seen = before
        return value


def state_of(paths: Sequence[Path]) -> State:
    """What changes whenever a file is written or replaced; None in the place of one that is not there."""
    return tuple(map(_state, paths))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116  # follows links: Kubernetes replaces a link to a folder
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
