"""The search for the fastest tactic, with runs that take what a test says on a clock of its own."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from resnet_server.engines.api import Images, Logits
from resnet_server.engines.gpu.tuning import Bound, Change, Choice, Comparison, Tactic, Tuner, difference
from resnet_server.errors import EngineError

NHWC: Change = lambda tactic: replace(tactic, nhwc=True)  # noqa: E731
EXHAUSTIVE: Change = lambda tactic: replace(tactic, exhaustive=True)  # noqa: E731
GRAPH: Change = lambda tactic: replace(tactic, graph=True)  # noqa: E731


def images(seed: int) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (8, 2, 2, 3), dtype=np.uint8)


def exact(rows: Images) -> Logits:
    return rows.reshape(len(rows), -1)[:, :4].astype(np.float32)


class Machine:
    """Opens tactics that take `seconds(rows, tactic)` for a batch and compute `logits`; remembers what was opened."""

    def __init__(self, seconds: Callable[[int, Tactic], float], logits: Callable[[Tactic], Callable[[Images], Logits]]) -> None:
        self.now = 0.0
        self.opened: list[tuple[int, Tactic]] = []
        self._seconds, self._logits = seconds, logits

    def open(self, rows: int, tactic: Tactic) -> Bound:
        self.opened.append((rows, tactic))
        seconds, logits = self._seconds(rows, tactic), self._logits(tactic)
        machine = self

        class Timed:
            def run(self, batch: Images) -> Logits:
                assert len(batch) == rows
                machine.now += seconds
                return logits(batch)

        return Timed()

    def tune(self, *changes: Change, buckets: tuple[int, ...] = (1, 8), seconds: float = 1e9) -> dict[int, Choice]:
        plain = {rows: self.open(rows, Tactic()) for rows in buckets}
        self.opened.clear()
        comparison = Comparison(images(0), images(1), 1e-3, seconds, lambda: self.now)
        return Tuner(self.open, comparison).tune(plain, changes)


def test_each_bucket_keeps_what_is_faster_there() -> None:
    def seconds(rows: int, tactic: Tactic) -> float:
        return rows * (0.5 if tactic.exhaustive else 1) * (1 if not tactic.graph else 0.5 if rows == 1 else 1.5)

    machine = Machine(seconds, lambda _: exact)
    choices = machine.tune(EXHAUSTIVE, GRAPH)
    assert {rows: choice.tactic for rows, choice in choices.items()} == {
        1: Tactic(exhaustive=True, graph=True),
        8: Tactic(exhaustive=True),
    }
    assert choices[1].seconds == pytest.approx(0.25)
    assert [rows for rows, _ in machine.opened] == [8, 1, 8, 1]  # the largest first, one change after the other


def test_a_gain_within_the_noise_is_none() -> None:
    assert Machine(lambda _, tactic: 0.98 if tactic.graph else 1, lambda _: exact).tune(GRAPH)[8].tactic == Tactic()


def test_what_computes_something_else_is_not_used_however_fast(caplog: pytest.LogCaptureFixture) -> None:
    def logits(tactic: Tactic) -> Callable[[Images], Logits]:
        return (lambda rows: exact(rows) + 1) if tactic.nhwc else exact

    machine = Machine(lambda _, tactic: 0.1 if tactic.nhwc else 1, logits)
    choices = machine.tune(NHWC, GRAPH)
    assert not any(choice.tactic.nhwc for choice in choices.values())
    assert [tactic for _, tactic in machine.opened].count(Tactic(nhwc=True)) == 1  # not tried in the other sizes
    assert "tactics: NHWC is not used: at batch 8 it is off by 1 in a logit" in caplog.text
    assert len(caplog.records) == 1


def test_a_graph_that_replays_the_images_it_was_captured_with_is_not_used() -> None:
    def logits(tactic: Tactic) -> Callable[[Images], Logits]:
        captured: list[Logits] = []

        def replay(rows: Images) -> Logits:
            captured.append(exact(rows))
            return captured[0]

        return replay if tactic.graph else exact

    assert Machine(lambda _, tactic: 0.1 if tactic.graph else 1, logits).tune(GRAPH)[8].tactic == Tactic()


def test_what_cannot_be_opened_is_not_used_and_the_search_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def seconds(rows: int, tactic: Tactic) -> float:
        if tactic.nhwc:
            raise EngineError("no such kernel")
        return 0.5 if tactic.graph else 1

    assert Machine(seconds, lambda _: exact).tune(NHWC, GRAPH)[1].tactic == Tactic(graph=True)
    assert [record.getMessage() for record in caplog.records] == ["tactics: NHWC is not used: at batch 8 no such kernel"]


def test_the_search_ends_in_time_with_what_it_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine(lambda rows, tactic: rows * (0.5 if tactic.exhaustive else 1), lambda _: exact)
    choices = machine.tune(EXHAUSTIVE, GRAPH, seconds=140.0)  # the plain tactic takes 99 of them, the change 44 in the largest bucket
    assert machine.opened == [(8, Tactic(exhaustive=True))]
    assert {rows: choice.tactic for rows, choice in choices.items()} == {1: Tactic(), 8: Tactic(exhaustive=True)}
    assert "the search ended after 140 s" in caplog.text


def test_a_gpu_that_cannot_even_run_the_plain_tactic_is_an_error() -> None:
    def logits(_: Tactic) -> Callable[[Images], Logits]:
        def fail(rows: Images) -> Logits:
            raise EngineError("out of memory")

        return fail

    with pytest.raises(EngineError, match="out of memory"):
        Machine(lambda *_: 1, logits).tune(GRAPH)


def test_differences_are_relative_to_the_largest_logit() -> None:
    expected = np.array([[10.0, -200.0]], np.float32)
    assert difference(expected + 0.1, expected, 1e-3) == ""
    assert difference(expected + 0.3, expected, 1e-3) == "it is off by 0.3 in a logit; the most is 0.2"
    assert difference(expected * np.nan, expected, 1e-3) == "it gave other than finite numbers"
    assert difference(expected[:, :1], expected, 1e-3) == "it gave the shape (1, 1)"


def test_tactics_say_what_they_are() -> None:
    assert str(Tactic()) == "plain"
    assert str(Tactic(nhwc=True, exhaustive=True, graph=True)) == "NHWC, exhaustive search, CUDA graph"
    assert str(Tactic(tensorrt=True)) == "TensorRT"
