"""The benchmark's arithmetic and its checks of what it measures."""

from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from resnet_bench.depths import make_cell
from resnet_bench.errors import BenchError
from resnet_bench.load import DIGITS, HIGHEST_US, Load, Sample, measure, prepare
from resnet_bench.material import Material
from resnet_bench.schema import Report, Spread, this_machine
from resnet_bench.table import shown


def sample(latencies_us: list[int], rows: int, seconds: float) -> Sample:
    histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
    for latency in latencies_us:
        histogram.record_value(latency)
    return Sample(len(latencies_us), rows, seconds, 0, 0, bytes(histogram.encode()))


def test_percentiles_come_from_the_histogram() -> None:
    one = sample([1000 * i for i in range(1, 101)], 100, 2.0)
    assert one.throughput == 50
    assert one.latency_ms(50) == pytest.approx(50, rel=1e-2)
    assert one.latency_ms(99) == pytest.approx(99, rel=1e-2)


def test_a_cell_sums_up_its_repeats() -> None:
    runs: list[tuple[Sample, float | None]] = [(sample([1000] * count, count, 1.0), 0.5) for count in (100, 300, 200)]
    cell = make_cell((4, 1), runs, raw=400.0)
    assert cell.throughput == Spread(200, 100, 300)
    assert cell.efficiency == Spread(0.5, 0.25, 0.75)
    assert cell.calls == 600
    assert shown(cell.throughput, 0) == "200 ±100"


def test_requests_are_distinct_and_of_the_asked_size() -> None:
    material = Material(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1).repeat(3, 3), np.arange(8))
    calls = list(prepare(Load("", "m", "1", "fp32", 1, 3, 0, 1), material))
    assert len({call.data for call in calls}) == len(calls) == 3
    assert [list(call.classes) for call in calls if call.classes is not None] == [[0, 1, 2], [3, 4, 5], [6, 7, 0]]


def test_a_run_whose_calls_fail_is_void() -> None:
    material = Material(np.zeros((1, 2, 2, 3), np.uint8), None)
    with pytest.raises(BenchError, match="void: m: a call failed: UNAVAILABLE"):
        measure(Load("127.0.0.1:1", "m", "1", "fp32", 1, 1, 0.0, 1.0), material)


def test_a_report_names_the_machine_and_is_saved(tmp_path: Path) -> None:
    report = Report("resnet-bench depths", this_machine(2), 3, 1.0, ())
    text = report.save(tmp_path / "deep").read_text()
    assert '"cores": 2' in text
    assert "numpy" in report.machine.versions
