"""Answers kept for tensors that come again: off by default, bounded in bytes, and never the answer to another tensor.

The key is the whole SHA-256 of the model's file and of the tensor. Triton's is a hash of 64 bits, and two tensors that share it get the
same answer: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/response_cache.md
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from resnet_server.batching.waiter import Answer
from resnet_server.engines.api import Images, Logits
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.group import GroupInfo
from resnet_server.models.served_model import ServedModel

MOST_HASHED = 1 << 20
"""Bytes of a tensor: a larger one keeps the thread that takes calls in for milliseconds, and hardly comes twice."""

OVERHEAD_BYTES = 400
"""Of Python's objects around an answer."""

Count = Callable[[float], None]


class AnswerCache:
    """Holds at most `most` bytes of answers; the one that was not asked for longest goes first. Any thread may ask."""

    def __init__(self, most: int, metrics: Metrics, now: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._metrics = metrics
        self._now = now
        self._answers: OrderedDict[bytes, Logits] = OrderedDict()
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str, bool], Count] = {}
        self.held = 0
        metrics.cache_bytes.set_function(lambda: self.held)
        metrics.on_dropped.append(self._forget)

    def look(self, model: ServedModel, rows: Images) -> "Look | None":
        """What is kept for UINT8 [n, h, w, 3], and where to keep it; None for what is not cached.

        A group answers the same tensor by one network or another, as time allows: that is not cached.
        """
        if rows.nbytes > MOST_HASHED or isinstance(model.info, GroupInfo):
            return None
        started = self._now()
        key = key_of(model, rows)
        with self._lock:
            logits = self._answers.get(key)
            if logits is not None:
                self._answers.move_to_end(key)
        self._count(model, logits is not None, self._now() - started)
        return Look(self, key, None if logits is None else Answer(logits, 0, 0.0, 0.0, 0, 0.0))

    def keep(self, key: bytes, logits: Logits) -> None:
        """Keep a copy of FP32 [n, classes], which is a part of its batch's."""
        size = logits.nbytes + OVERHEAD_BYTES
        if size > self._most:
            return
        kept = logits.copy()
        kept.setflags(write=False)
        with self._lock:
            if key in self._answers:  # two asked for it at once
                return
            self._answers[key] = kept
            self.held += size
            while self.held > self._most:
                _, oldest = self._answers.popitem(last=False)
                self.held -= oldest.nbytes + OVERHEAD_BYTES

    def _forget(self, name: str, version: str) -> None:
        for hit in (True, False):
            self._counts.pop((name, version, hit), None)

    def _count(self, model: ServedModel, hit: bool, seconds: float) -> None:
        place = (model.name, model.version, hit)
        count = self._counts.get(place)
        if count is None:
            count = self._counts[place] = self._counting(*place)
        self._metrics.buffer.note(count, seconds)

    def _counting(self, name: str, version: str, hit: bool) -> Count:
        """Counts one look of so many seconds."""
        counter = (self._metrics.cache_hits if hit else self._metrics.cache_misses).labels(name, version)
        statistics = self._metrics.statistics.cache_counter((name, version), hit)

        def count(seconds: float) -> None:
            counter.inc()
            statistics(seconds)

        return count


class Look:
    """One tensor that was looked for: its answer, or None and the place to keep it."""

    __slots__ = ("_cache", "_key", "answer")

    def __init__(self, cache: AnswerCache, key: bytes, answer: Answer | None) -> None:
        self._cache, self._key, self.answer = cache, key, answer

    def keep(self, answer: Answer) -> None:
        """It is computed now."""
        self._cache.keep(self._key, answer.logits)


def key_of(model: ServedModel, rows: Images) -> bytes:
    """SHA-256 of the file that computes, which there is one of for each precision, of the provider, and of the tensor with its shape."""
    digest = hashlib.sha256(f"{model.info.artifact.sha256} {model.info.provider} {rows.shape}\n".encode())
    digest.update(np.ascontiguousarray(rows).data)
    return digest.digest()
