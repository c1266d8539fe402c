"""How runs become points, and what decides whether the SLO was met."""

from collections import Counter
from dataclasses import replace

import pytest
from resnet_bench.depths.record import Record, Run, summed_up
from resnet_bench.depths.subject import Subject
from resnet_bench.load.histogram import encoded, new_histogram, record
from resnet_bench.load.sample import Sample, Tally
from resnet_bench.load.spec import Load
from resnet_bench.schema import Facts, Spread
from resnet_bench.scrape import Observed
from resnet_bench.server_process import Target

FACTS = Facts("m", "1", "resnet20", 20, 1, 1, True, 91.0, "", "fp32", "CPUExecutionProvider", "", "", None, None, 32)


def run(
    kind: str, calls: int, latency: float, on_time: int | None = None, void: str = "", cpu: float | None = 0.5, rate: float = 100.0
) -> Run:
    histogram = new_histogram()
    for _ in range(calls):
        record(histogram, latency)
    good = calls if on_time is None else on_time
    counts = Counter(OK=calls)
    lag = encoded(new_histogram())
    tally = Tally(calls, calls, good, good, 0, 0.0, counts, "", encoded(histogram), lag, 0.1, 0, 1.0)
    load = Load("", "m", rate=rate, seconds=1.0, slo=0.05)
    observed = Observed(request_seconds=calls * latency * 0.75, requests=calls, queue_seconds=calls * latency * 0.25, queued=calls)
    return Run(kind, Sample(load, (tally,), void), observed, cpu)


def recorded(*runs: Run) -> Record:
    subject = Subject(Target(""), FACTS, None, None, ())
    return Record(subject, raw=[400.0], runs=list(runs))


def test_a_point_sums_up_its_repeats() -> None:
    point = summed_up([run("busy", count, 0.01) for count in (100, 300, 200)], Spread(400, 400, 400))
    assert point.throughput == Spread(200, 100, 300)
    assert point.efficiency == Spread(0.5, 0.25, 0.75)
    assert (point.calls, point.repeats, point.outcomes) == (600, 3, {"OK": 600})
    assert point.cpu_seconds is not None
    assert point.cpu_seconds.median == pytest.approx(1000 * 0.5 / 200)
    assert point.p99_ms.median == pytest.approx(10, rel=1e-2)


def test_the_split_adds_up_to_the_mean() -> None:
    split = summed_up([run("busy", 100, 0.01)], None).split
    assert split is not None
    assert (split.queue.median, split.compute.median, split.wire.median) == pytest.approx((2.5, 5.0, 2.5), rel=1e-2)


def test_void_runs_do_not_count_but_are_told() -> None:
    point = summed_up([run("busy", 100, 0.01), run("busy", 5, 1.0, void="the generator lagged")], None)
    assert (point.repeats, point.calls, point.voids) == (1, 100, ("the generator lagged",))
    result = recorded(run("single", 10, 0.01), run("busy", 5, 1.0, void="the generator lagged")).result()
    assert [found.kind for found in result.points] == ["single"]


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        (run("probe", 100, 0.01), "met"),
        (run("probe", 100, 0.01, on_time=99), "met"),
        (run("probe", 100, 0.01, on_time=98), "missed"),
        (run("probe", 100, 0.06), "missed"),
        (run("probe", 100, 0.01, void="lagged"), "void"),
        (run("probe", 100, 0.06, on_time=0, void="lagged"), "missed"),
    ],
)
def test_what_a_probe_says(kind: Run, verdict: str) -> None:
    assert kind.verdict == verdict


def test_a_repeat_that_finds_no_capacity_counts_as_zero() -> None:
    found = replace(recorded(run("single", 10, 0.01), run("probe", 100, 0.01)), capacities=[100.0, None, 120.0]).result()
    assert found.capacity is not None
    assert found.capacity.images == Spread(100, 0, 120)
    assert found.capacity.efficiency == Spread(0.25, 0, 0.3)
    assert [(point.rate, point.met) for point in found.curve] == [(100, True), (100, True)]


def test_no_capacity_keeps_its_reason() -> None:
    found = replace(recorded(run("single", 10, 0.01)), capacities=[None], why_none="too slow").result()
    assert found.capacity is not None
    assert (found.capacity.images, found.capacity.reason) == (None, "too slow")


def test_batch_sizes_add_up_over_the_repeats_and_keep_what_is_empty() -> None:
    runs = [run("busy", 10, 0.01), run("busy", 10, 0.01)]
    for one in runs:
        assert one.observed is not None
        one.observed.batch_rows.update({1.0: 4, 2.0: 0, float("inf"): 1})
    assert summed_up(runs, None).batch_rows == {"1": 8, "2": 0, "more": 2}
