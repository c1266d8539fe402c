"""How much a caller may have at a time: a token bucket, which is full at first and fills again steadily."""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOWS = {"s": 1.0, "min": 60.0, "h": 3600.0}
WRITTEN = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)/(s|min|h)")


@dataclass(frozen=True)
class Rate:
    """`amount` in `seconds`, as many at once."""

    amount: float
    seconds: float


def parse_rate(text: str) -> Rate:
    """`50/s`, `1000/min` or `20000/h`; raises ValueError saying what was expected."""
    match = WRITTEN.fullmatch(text)
    if match is None or float(match[1]) == 0:
        raise ValueError(f"'{text[:50]}'; expected a number above 0 with /s, /min or /h, such as 50/s")
    return Rate(float(match[1]), WINDOWS[match[2]])


class Bucket:
    """Any thread may take. What is more than the bucket holds is given once it is full, and owed."""

    def __init__(self, rate: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self.rate = rate
        self._now = now
        self._level, self._at = rate.amount, now()
        self._lock = threading.Lock()

    def take(self, count: float) -> float:
        """0 where `count` are given, else the seconds until they would be."""
        rate = self.rate
        with self._lock:
            now = self._now()
            self._level = min(rate.amount, self._level + (now - self._at) * rate.amount / rate.seconds)
            self._at = now
            missing = min(count, rate.amount) - self._level
            if missing <= 1e-9:  # floating point
                self._level -= count
                return 0.0
            return missing * rate.seconds / rate.amount
