"""Progress of a benchmark: a bar with the time left on a terminal, lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn


class Bar:
    """Counts work in equal parts; the time left is first what was expected, then what the parts done so far took."""

    def __init__(self, parts: int = 0, expected_seconds: float = 0.0) -> None:
        self._parts, self._done = parts, 0
        self._expected = expected_seconds
        self._begun = self._last = time.monotonic()
        console = Console(file=sys.stderr)
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[left]}"))
        self._bar = Progress(*columns, console=console, transient=True) if console.is_terminal else None
        self._task = None if self._bar is None else self._bar.add_task("", total=None, left="")

    def expect(self, parts: int, seconds: float) -> None:
        """From here on there are so many parts, which will take about so long."""
        self._parts, self._expected = parts, seconds
        self._begun = self._last = time.monotonic()

    def step(self, text: str) -> None:
        """Say what is being done."""
        if self._bar is None or self._task is None:
            sys.stderr.write(f"{text}{self._left()}\n")
            sys.stderr.flush()
        else:
            elapsed = time.monotonic() - self._begun
            total = elapsed + self._seconds_left() if self._parts else None
            self._bar.update(self._task, description=text, completed=elapsed, total=total, left=self._left())

    def part_done(self) -> None:
        """One part more is done."""
        self._done += 1
        self._last = time.monotonic()

    def _seconds_left(self) -> float:
        now = time.monotonic()
        if not self._done:
            return max(0.0, self._begun + self._expected - now)
        each = (self._last - self._begun) / self._done
        return max(0.0, (self._parts - self._done) * each - (now - self._last))

    def _left(self) -> str:
        if not self._parts:
            return ""
        left = self._seconds_left()
        return f" (about {int(left // 60)}:{int(left % 60):02} left)" if left >= 1 else " (longer than expected, little left)"

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()
