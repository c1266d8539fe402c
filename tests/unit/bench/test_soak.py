"""A soak: its traffic, and what it says of the readings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from resnet_bench.drivers.api import Load, sample_of
from resnet_bench.drivers.soak import TRAFFIC, Soak, growth_percent, problems_of, right
from resnet_bench.errors import BenchError
from resnet_bench.published import Material, find
from resnet_bench.requests import Requests
from resnet_bench.sample import Sample
from resnet_bench.target import Target
from serving import RunningServer

LOAD = Load("resnet20", arrivals="closed", concurrency=4, seconds=60.0)


class Nobody:
    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


def reading(part: int, *mebibytes: int, engine: int = 8, **outcomes: int) -> Sample:
    memory = {"server": mebibytes[0] << 20, f"engine {engine}": mebibytes[1] << 20}
    return replace(sample_of(LOAD, "soak"), repeat=part, memory=memory, outcomes=outcomes, first_error="one image: UNKNOWN: no")


def test_memory_growth_is_from_the_first_part_to_the_last() -> None:
    readings = [reading(0, 100, 100), reading(1, 200, 100), reading(2, 103, 100)]
    assert growth_percent(readings) == pytest.approx(1.5)
    assert growth_percent(readings[:1]) is None
    assert problems_of(readings) == []


def test_growth_a_new_process_and_wrong_outcomes_are_problems() -> None:
    readings = [reading(0, 100, 100, OK=9), reading(1, 110, 100, engine=9, OK=7, unexpected=2)]
    assert problems_of(readings) == [
        "part 2: 2 unexpected outcomes, the first one image: UNKNOWN: no",
        "memory grew by 5.00 %; expected at most 2 %",
        "part 2: processes ended: engine 8",
    ]


def test_a_process_that_is_started_by_need_is_none() -> None:
    more = replace(reading(1, 100, 100), memory=reading(1, 100, 100).memory | {"front end 9": 1})
    assert problems_of([reading(0, 100, 100), more]) == []


def test_wrong_answers_are_told_from_right_ones() -> None:
    window = Material(np.zeros((10, 1, 1, 3), np.uint8), np.arange(10))
    assert right(np.arange(10), window) == ""
    assert right(np.arange(9), window) == "9 rows were answered for 10"
    assert right(np.zeros(10, np.int64), window) == "only 1 of 10 rows agree with the reference"


def test_all_kinds_of_traffic_end_as_they_should(server: RunningServer, repository: Any) -> None:
    material = find(repository, "resnet20").material
    soak = Soak(material, "resnet20", calls=200)
    sample = soak.run(Target("ours", server.url, server.process.pid), Requests("", ()), LOAD, Nobody())
    assert sample.calls == 200
    assert "unexpected" not in sample.outcomes, sample.first_error
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND"} <= set(sample.outcomes)
    assert sum(share for _, share, _ in TRAFFIC) == pytest.approx(1)


def test_wrong_answers_are_counted_and_do_not_end_it(server: RunningServer, repository: Any) -> None:
    material = find(repository, "resnet20").material
    assert material.classes is not None
    wrong = Material(material.images, (material.classes + 1) % 10)
    sample = Soak(wrong, "resnet20", calls=60).run(Target("ours", server.url), Requests("", ()), LOAD, Nobody())
    assert sample.calls == 60
    assert sample.outcomes["WRONG"] == sample.outcomes["unexpected"] > 0
    assert "rows agree with the reference" in sample.first_error


def test_a_server_that_is_gone_ends_it(repository: Any) -> None:
    with pytest.raises(BenchError, match="resnet20: the server became unreachable"):
        Soak(find(repository, "resnet20").material, "resnet20", calls=1000).run(
            Target("ours", "127.0.0.1:1"), Requests("", ()), LOAD, Nobody()
        )
