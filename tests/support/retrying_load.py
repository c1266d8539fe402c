"""Callers that retry, in threads; every answer is checked against what a server alone answers."""

import threading
from collections.abc import Callable
from typing import Self

import numpy as np
from numpy.typing import NDArray
from resnet_client import Client

Logits = NDArray[np.float32]
ROWS = 8
IMAGES = np.random.default_rng(7).integers(0, 256, (ROWS, 32, 32, 3), dtype=np.uint8)


class RetryingLoad:
    """Closed loops of single images, different ones in turn; use it as a context manager.

    `answered` counts right answers, `problems` holds what callers saw otherwise.
    """

    def __init__(self, call: Callable[[int], Logits], expected: Logits, callers: int = 8) -> None:
        self.answered = 0
        self.problems: list[str] = []
        self._call, self._expected = call, expected
        self._changed = threading.Condition()
        self._over = False
        self._threads = [threading.Thread(target=self._loop, args=(number,)) for number in range(callers)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over = True
        for thread in self._threads:
            thread.join()

    def wait_for_more(self, count: int, seconds: float = 60.0) -> None:
        """Return once `count` more calls were answered; fails after `seconds`, and at the first problem."""
        with self._changed:
            goal = self.answered + count
            assert self._changed.wait_for(lambda: self.answered >= goal or self.problems, seconds), f"{self.answered} of {goal} answered"
            assert not self.problems, self.problems[:3]

    def _loop(self, number: int) -> None:
        row = number
        while not self._over:
            row = (row + 1) % ROWS
            problem = self._one(row)
            with self._changed:
                self.answered += not problem
                self.problems += [problem] if problem else []
                self._changed.notify_all()

    def _one(self, row: int) -> str:
        try:
            logits = self._call(row)
        except Exception as error:  # whatever a caller sees is the finding
            return f"{type(error).__name__}: {error}"
        # Batches of other sizes round differently; another image's answer is far away.
        return "" if np.allclose(logits, self._expected[row], atol=1e-3) else f"wrong answer for image {row}"


def answers_of(url: str) -> Logits:
    """Logits [ROWS, classes] of IMAGES, asked of one server."""
    with Client(url) as client:
        return client.infer(IMAGES, model="resnet20")


def caller(client: Client) -> Callable[[int], Logits]:
    """One image a call by our client, which retries."""
    return lambda row: client.infer(IMAGES[row : row + 1], model="resnet20")[0]
