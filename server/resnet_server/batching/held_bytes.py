"""The memory that callers may make the server hold, in bytes: messages that wait, images that are decoded, remembered requests."""

import threading


class HeldBytes:
    """A budget of `most` bytes that any thread may take from; what is taken has to be given back once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Bytes taken and not yet given back."""
        return self._held

    def try_take(self, count: int) -> bool:
        """Take `count` bytes, all or none; False where that would be more than `most`."""
        with self._lock:
            if self._held + count > self.most:
                return False
            self._held += count
        return True

    def give_back(self, count: int) -> None:
        """Give back what `try_take` got."""
        with self._lock:
            self._held -= count
