"""Answers that are kept: bounded, by the whole tensor and the file, and whoever asks at once."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.answer_cache import MOST_HASHED, OVERHEAD_BYTES, AnswerCache, key_of
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.group import GroupInfo

CLASSES = 10
ENTRY = 4 * CLASSES + OVERHEAD_BYTES


def model(digest: str = "a", provider: str = "CPU", version: str = "1") -> Any:
    info = SimpleNamespace(artifact=SimpleNamespace(sha256=digest), provider=provider)
    return SimpleNamespace(info=info, name="resnet20", version=version)


def images(value: int, rows: int = 1) -> Any:
    return np.full((rows, 4, 4, 3), value, np.uint8)


def answer(value: float, rows: int = 1) -> Answer:
    return Answer(np.full((rows, CLASSES), value, np.float32), rows, 0.0, 0.0, 1, 0.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def ask(cache: AnswerCache, tensor: Any, value: float, of: Any = None) -> float:
    """The answer kept, or `value`, which is kept then."""
    look = cache.look(of or model(), tensor)
    assert look is not None
    if look.answer is None:
        look.keep(answer(value, len(tensor)))
        return value
    return float(look.answer.logits[0, 0])


def test_the_same_tensor_is_answered_by_what_was_kept_and_no_other_is(metrics: Metrics) -> None:
    cache = AnswerCache(1 << 20, metrics)
    assert [ask(cache, images(1), 5), ask(cache, images(1), 6)] == [5, 5]
    for other in (images(2), images(1, rows=2), images(1).reshape(1, 4, 3, 4), images(1).reshape(1, 3, 4, 4)):
        assert ask(cache, other, 7) == 7
    for served in (model("b"), model(provider="CUDA")):
        assert ask(cache, images(1), 8, served) == 8
    assert ask(cache, images(1), 9, model(version="2")) == 5  # the same file under another number
    spread = np.zeros((1, 4, 4, 6), np.uint8)[..., ::2]
    assert key_of(model(), spread) == key_of(model(), spread.copy())


def test_what_was_not_asked_for_longest_goes_and_the_bound_holds(metrics: Metrics) -> None:
    cache = AnswerCache(3 * ENTRY, metrics)
    for value in (1, 2, 3):
        ask(cache, images(value), value)
    assert ask(cache, images(1), 9) == 1
    ask(cache, images(4), 4)
    assert cache.held == 3 * ENTRY
    assert metrics.registry.get_sample_value("resnet_cache_bytes") == 3 * ENTRY
    assert [ask(cache, images(value), 9) for value in (1, 3, 4)] == [1, 3, 4]
    assert ask(cache, images(2), 9) == 9
    AnswerCache(ENTRY - 1, metrics).keep(b"key", answer(1).logits)
    assert ask(AnswerCache(ENTRY - 1, metrics), images(1), 1) == 1


def test_what_is_kept_is_a_copy_that_nobody_can_write_to(metrics: Metrics) -> None:
    cache = AnswerCache(1 << 20, metrics)
    batch = np.zeros((8, CLASSES), np.float32)
    cache.keep(key_of(model(), images(1)), batch[2:3])
    batch[:] = 7
    look = cache.look(model(), images(1))
    assert look is not None
    assert look.answer is not None
    assert not look.answer.logits.any()
    with pytest.raises(ValueError, match="read-only"):
        look.answer.logits[0, 0] = 1


def test_large_tensors_and_groups_are_not_kept(metrics: Metrics) -> None:
    cache = AnswerCache(1 << 30, metrics)
    assert cache.look(model(), np.zeros((1, MOST_HASHED + 1), np.uint8)) is None
    group = model()
    group.info = GroupInfo.__new__(GroupInfo)
    assert cache.look(group, images(1)) is None


def test_many_threads_leave_the_count_of_bytes_right(metrics: Metrics) -> None:
    cache = AnswerCache(20 * ENTRY, metrics)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: ask(cache, images(number % 40), number % 40), range(4000)))
    assert found == [number % 40 for number in range(4000)]
    assert cache.held == ENTRY * len(cache._answers) <= 20 * ENTRY


def test_hits_and_misses_are_counted_with_their_time(metrics: Metrics) -> None:
    times = iter(range(100))
    cache = AnswerCache(1 << 20, metrics, lambda: float(next(times)))
    for _ in range(3):
        ask(cache, images(1), 1)
    metrics.buffer.settle()
    counts = metrics.statistics.of(("resnet20", "1"))
    assert (counts.cache_hit.count, counts.cache_hit.seconds, counts.cache_miss.count) == (2, 2.0, 1)
    labels = {"model": "resnet20", "version": "1"}
    assert metrics.registry.get_sample_value("resnet_cache_hits_total", labels) == 2
    assert metrics.registry.get_sample_value("resnet_cache_misses_total", labels) == 1
