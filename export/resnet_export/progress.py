"""How far a publication is, counted in images that were computed: the unit in which nearly all of its time is spent."""

import contextlib
from collections.abc import Iterator
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Steps(Protocol):
    """What a long work tells of itself."""

    def expect(self, images: int) -> None:
        """So many more images will be computed."""

    def step(self, text: str) -> None:
        """What is done now."""

    def advance(self, images: int) -> None:
        """So many images were computed."""


class Silent:
    """Tells nobody."""

    def expect(self, images: int) -> None:
        """Ignore."""

    def step(self, text: str) -> None:
        """Ignore."""

    def advance(self, images: int) -> None:
        """Ignore."""


SILENT = Silent()


class Bar:
    """One bar with the time left; the total grows as more work becomes known."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("starting", total=None)
        self._total = 0

    def expect(self, images: int) -> None:
        """Add to the total."""
        self._total += images
        self._progress.update(self._task, total=self._total)

    def step(self, text: str) -> None:
        """Show the text beside the bar."""
        self._progress.update(self._task, description=text)

    def advance(self, images: int) -> None:
        """Move the bar."""
        self._progress.advance(self._task, images)


@contextlib.contextmanager
def shown_on(console: Console, wanted: bool) -> Iterator[Steps]:
    """A bar on a terminal; nothing where the output is a file, or where none is wanted."""
    if not wanted or not console.is_terminal:
        yield Silent()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        yield Bar(progress)
