"""Padding, bound buffers and page-locked slots: the lines that run on a GPU, on real ONNX Runtime with buffers on the CPU."""

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from resnet_models.sample import load_sample
from resnet_server.engines.api import Images, Logits
from resnet_server.engines.gpu.bound_session import BoundSession
from resnet_server.engines.gpu.bucket_sessions import BucketSessions, Search
from resnet_server.engines.gpu.driver import DriverError
from resnet_server.engines.gpu.tuning import Bound, Change, Tactic
from resnet_server.engines.gpu.tuning_cache import TuningCache
from resnet_server.engines.session import CPU, open_session, read_model
from resnet_server.errors import EngineError

BUCKETS = (1, 2, 4, 6)
GRAPH: Change = lambda tactic: replace(tactic, graph=True)  # noqa: E731


@pytest.fixture
def path(repository: Path) -> Path:
    return repository / "resnet20" / "1" / "model.fp32.onnx"


@pytest.fixture
def slot() -> Images:
    return load_sample().images[: BUCKETS[-1]].copy()


class Pages:
    """Locks no pages, but keeps the books."""

    def __init__(self, error: DriverError | None = None) -> None:
        self.error = error
        self.locked: list[int] = []
        self.attempts = 0

    def lock(self, slot: Images) -> Callable[[], None]:
        self.attempts += 1
        if self.error is not None:
            raise self.error
        self.locked.append(slot.ctypes.data)
        return lambda: self.locked.remove(slot.ctypes.data)


@pytest.fixture
def memo(tmp_path: Path) -> TuningCache:
    return TuningCache(tmp_path / "tactics" / "memo.json")


@dataclass
class Workshop:
    """Makes what is tested; `change_bound` stands for what a GPU does with a tactic other than the plainest."""

    path: Path
    memo: TuningCache
    pages: Pages = field(default_factory=Pages)
    opened: list[tuple[int, Tactic]] = field(default_factory=list)

    def open(self, *changes: Change, change_bound: Callable[[Bound], Bound] = lambda bound: bound) -> BucketSessions:
        def open_bound(rows: int, tactic: Tactic) -> Bound:
            self.opened.append((rows, tactic))
            bound = BoundSession(open_session(read_model(self.path), [CPU], 1), rows, 32, 32, ("cpu", 0))
            return bound if tactic == Tactic() else change_bound(bound)

        return BucketSessions(BUCKETS, open_bound, Search(changes, 1e-3, 60.0, self.memo), self.pages.lock)


@pytest.fixture
def workshop(path: Path, memo: TuningCache) -> Workshop:
    return Workshop(path, memo)


def expected(path: Path, images: Images) -> Logits:
    logits: Logits = open_session(read_model(path), [CPU], 1).run(["logits"], {"image": images})[0]
    return logits


def test_every_number_of_rows_gives_what_it_gives_without_padding(workshop: Workshop, path: Path, slot: Images) -> None:
    compute, right = workshop.open(), expected(path, slot)
    for rows in (6, 1, 5, 2, 3, 4, 1, 6):  # up and down: no bucket may keep what another left
        mixed = slot.copy()
        mixed[rows:] = 255  # what an earlier batch left behind
        found = compute.run(mixed, rows)
        assert found.shape == (rows, 10)
        np.testing.assert_allclose(found, right[:rows], atol=1e-4)


def test_a_batch_runs_in_the_smallest_bucket_that_holds_it(workshop: Workshop, slot: Images) -> None:
    ran: list[int] = []

    def note(bound: Bound) -> Bound:
        class Noted:
            def run(self, images: Images) -> Logits:
                ran.append(len(images))
                return bound.run(images)

        return Noted()

    workshop.memo.save(dict.fromkeys(BUCKETS, Tactic(graph=True)))
    compute = workshop.open(GRAPH, change_bound=note)
    compute.warm_up(slot)
    ran.clear()
    for rows in range(1, 7):
        assert len(compute.run(slot, rows)) == rows
    assert ran == [1, 2, 4, 4, 6, 6]


def test_logits_are_the_callers_own(workshop: Workshop, slot: Images) -> None:
    compute = workshop.open()
    first = compute.run(slot, 4)
    kept = first.copy()
    compute.run(slot[::-1].copy(), 4)
    np.testing.assert_array_equal(first, kept)


def test_warming_up_finds_a_tactic_for_every_bucket_once(
    workshop: Workshop, path: Path, slot: Images, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    compute, right, scratch = workshop.open(GRAPH), expected(path, slot), slot.copy()
    compute.warm_up(scratch)
    assert tuple(compute.tactics) == BUCKETS
    assert sorted(workshop.opened, key=str) == sorted(((rows, t) for rows in BUCKETS for t in (Tactic(), Tactic(graph=True))), key=str)
    assert [record.getMessage() for record in caplog.records] == [
        f"tactics: batch {rows} runs with {compute.tactics[rows]}" for rows in BUCKETS
    ]
    compute.warm_up(scratch)
    assert len(workshop.opened) == 2 * len(BUCKETS)
    np.testing.assert_allclose(compute.run(slot, 5), right[:5], atol=1e-4)


def test_an_engine_that_starts_again_runs_as_before_without_a_search(workshop: Workshop, path: Path, slot: Images) -> None:
    found = {1: Tactic(graph=True), 2: Tactic(), 4: Tactic(), 6: Tactic(nhwc=True, graph=True)}
    workshop.memo.save(found)
    compute, right = workshop.open(GRAPH), expected(path, slot)
    workshop.opened.clear()
    scratch = slot.copy()
    compute.warm_up(scratch)
    assert workshop.opened == [(1, found[1]), (6, found[6])]  # the plain ones are open
    assert compute.tactics == found
    np.testing.assert_array_equal(scratch, slot)
    np.testing.assert_allclose(compute.run(slot, 6), right, atol=1e-4)


def test_what_was_found_is_kept(workshop: Workshop, slot: Images) -> None:
    compute = workshop.open(GRAPH)
    compute.warm_up(slot)
    assert workshop.memo.load(BUCKETS) == compute.tactics
    assert workshop.memo.load((*BUCKETS, 8)) == {}  # another range of buckets was never searched


def test_what_does_not_open_any_more_is_searched_again(workshop: Workshop, slot: Images, caplog: pytest.LogCaptureFixture) -> None:
    def refuse(bound: Bound) -> Bound:
        raise EngineError("no such kernel")

    workshop.memo.save(dict.fromkeys(BUCKETS, Tactic(graph=True)))
    compute = workshop.open(GRAPH, change_bound=refuse)
    compute.warm_up(slot)
    assert compute.tactics == workshop.memo.load(BUCKETS) == dict.fromkeys(BUCKETS, Tactic())
    assert [record.getMessage() for record in caplog.records] == [
        "tactics: what was found before does not open, searching again: no such kernel",
        "tactics: CUDA graph is not used: at batch 6 no such kernel",
    ]


def test_a_memo_that_cannot_be_read_or_written_costs_a_search(memo: TuningCache, caplog: pytest.LogCaptureFixture) -> None:
    memo.path.parent.mkdir()
    for text in ("{", "[]", '{"1": {"unknown": true}}', '{"2": {}}'):
        memo.path.write_text(text)
        assert memo.load((1,)) == {}
    assert len(caplog.records) == 4
    TuningCache(memo.path / "below a file" / "memo.json").save({1: Tactic()})
    assert "cannot be written" in caplog.text


def test_a_tactic_that_computes_something_else_never_serves(
    workshop: Workshop, path: Path, slot: Images, caplog: pytest.LogCaptureFixture
) -> None:
    class Wrong:
        def run(self, images: Images) -> Logits:
            return np.zeros((len(images), 10), np.float32)

    compute, right = workshop.open(GRAPH, change_bound=lambda _: Wrong()), expected(path, slot)
    compute.warm_up(slot.copy())
    assert set(compute.tactics.values()) == {Tactic()}
    assert "tactics: CUDA graph is not used: at batch 6 it is off by" in caplog.text
    np.testing.assert_allclose(compute.run(slot, 6), right, atol=1e-4)


def test_a_slot_is_locked_once_and_unlocked_when_asked_or_at_the_end(workshop: Workshop, slot: Images) -> None:
    compute, other, locked = workshop.open(), slot.copy(), workshop.pages.locked
    compute.warm_up(slot)
    compute.pin(slot)
    compute.pin(other)
    assert locked == [slot.ctypes.data, other.ctypes.data]
    compute.unpin(other)
    compute.unpin(other)
    assert locked == [slot.ctypes.data]
    del compute
    gc.collect()
    assert locked == []


def test_a_slot_that_cannot_be_locked_still_serves(workshop: Workshop, path: Path, slot: Images, caplog: pytest.LogCaptureFixture) -> None:
    workshop.pages.error = DriverError("cuMemHostRegister_v2 failed with CUDA error 712")
    compute, right = workshop.open(), expected(path, slot)
    compute.pin(slot)
    compute.pin(slot)
    assert workshop.pages.attempts == 1
    assert f"slots: {slot.nbytes} bytes stay unlocked, copies to the GPU are slower: cuMemHostRegister_v2 failed" in caplog.text
    np.testing.assert_allclose(compute.run(slot, 2), right[:2], atol=1e-4)
    compute.unpin(slot)


def test_a_bound_session_takes_exactly_its_rows(path: Path, slot: Images) -> None:
    bound = BoundSession(open_session(read_model(path), [CPU], 1), 2, 32, 32, ("cpu", 0))
    with pytest.raises(EngineError, match="3 images for a session bound to 2 rows"):
        bound.run(slot[:3])
    with pytest.raises(EngineError, match=r"ONNX Runtime failed on 2 rows: .*does not match the size"):
        bound.run(np.zeros((2, 16, 16, 3), np.uint8))


def test_buffers_on_a_device_that_is_not_there_are_an_engine_error(path: Path) -> None:
    with pytest.raises(EngineError, match="buffers for 2 rows on toaster:0: Unsupported device type: toaster"):
        BoundSession(open_session(read_model(path), [CPU], 1), 2, 32, 32, ("toaster", 0))
