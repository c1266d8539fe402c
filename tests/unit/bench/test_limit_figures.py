"""The arithmetic of `limit`, `soak` and `overload`: spreads, steps, memory, and what makes a run void."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from resnet_bench.errors import BenchError
from resnet_bench.h2load import Sample
from resnet_bench.limit.call import Call, framed, logits_of
from resnet_bench.limit.driving import p50_ms, p99_ms
from resnet_bench.limit.grid import check_answers, kinds_of
from resnet_bench.limit.overload import summed_up
from resnet_bench.limit.processes import Usage, cpu_between, usage_of
from resnet_bench.limit.published import find, names_in
from resnet_bench.limit.results import LimitReport, Run, make_cell
from resnet_bench.limit.scrape import Steps, steps_between, sums
from resnet_bench.limit.soak import growth_percent
from resnet_bench.limit.table import limit_markdown, shown
from resnet_bench.load.histogram import encoded, new_histogram, record
from resnet_bench.load.sample import Sample as OpenSample
from resnet_bench.load.sample import Tally
from resnet_bench.load.spec import Load
from resnet_bench.schema import Spread, this_machine
from resnet_proto.open_inference_pb2 import ModelInferResponse

METRICS = """\
# TYPE resnet_requests_total counter
resnet_requests_total{{model="resnet20",version="1",method="ModelInfer",status="OK"}} {ok}
resnet_requests_total{{model="resnet20",version="1",method="ModelInfer",status="RESOURCE_EXHAUSTED"}} {refused}
resnet_requests_total{{model="resnet20",version="1",method="Classify",status="OK"}} 7000
resnet_requests_total{{model="resnet56",version="1",method="ModelInfer",status="OK"}} 9000
# TYPE resnet_request_seconds histogram
resnet_request_seconds_bucket{{model="resnet20",version="1",method="ModelInfer",le="+Inf"}} {ok}
resnet_request_seconds_count{{model="resnet20",version="1",method="ModelInfer"}} {ok}
resnet_request_seconds_sum{{model="resnet20",version="1",method="ModelInfer"}} {seconds}
# TYPE resnet_queue_seconds histogram
resnet_queue_seconds_count{{model="resnet20",version="1",precision="fp32"}} {ok}
resnet_queue_seconds_sum{{model="resnet20",version="1",precision="fp32"}} {queue}
# TYPE resnet_compute_seconds histogram
resnet_compute_seconds_count{{model="resnet20",version="1",precision="fp32"}} {batches}
resnet_compute_seconds_sum{{model="resnet20",version="1",precision="fp32"}} {compute}
# TYPE resnet_batch_rows histogram
resnet_batch_rows_count{{model="resnet20",version="1",precision="fp32"}} {batches}
resnet_batch_rows_sum{{model="resnet20",version="1",precision="fp32"}} {rows}
"""
BEFORE = METRICS.format(ok=100, refused=0, seconds=1.0, queue=0.5, batches=50, compute=0.2, rows=100)
AFTER = METRICS.format(ok=300, refused=3, seconds=3.0, queue=1.3, batches=100, compute=0.4, rows=300)


def call(expected: list[list[float]], precision: str = "fp32") -> Call:
    return Call("m", precision, np.zeros((len(expected), 2, 2, 3), np.uint8), b"message", np.array(expected, np.float32))


def run_of(served: float, raw: float, p99: float | None = 2.0) -> Run:
    return Run(served, raw, 1.0, p99, 1.1, {"front end": 100.0, "engine 7": 500.0, "generator": 9.0}, Steps(10, 1.0, 0.2, 0.5, 2.0))


def test_a_message_is_framed_as_grpc_does() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_steps_are_of_one_model_and_between_two_scrapes() -> None:
    before, after = sums(BEFORE, "resnet20"), sums(AFTER, "resnet20")
    steps = steps_between(before, after, 1)
    assert (steps.calls, steps.batch_rows) == (200, 4)
    assert (steps.total, steps.queue, steps.compute) == pytest.approx((10, 4, 4))
    assert steps.rest == pytest.approx(2)


def test_a_call_of_several_batches_computes_for_all_of_them() -> None:
    steps = steps_between(sums(BEFORE, "resnet20"), sums(AFTER, "resnet20"), 32)
    assert steps.compute == pytest.approx(8 * 4)


def test_answers_that_the_server_did_not_give_void_the_run() -> None:
    before, after = sums(BEFORE, "resnet20"), sums(AFTER, "resnet20")
    check_answers(200, before, after)
    with pytest.raises(BenchError, match="h2load counted 201 answers, the server 200 with OK and 3 without"):
        check_answers(201, before, after)


def test_the_share_of_raw_is_taken_repeat_by_repeat() -> None:
    cell = make_cell("m", "fp32", (16, 8), "2 x 1", 0.9, [run_of(90, 100), run_of(160, 200), run_of(95, 100, None)])
    assert cell.of_raw == Spread(0.9, 0.8, 0.95)
    assert cell.p99_ms == Spread(2.0, 2.0, 2.0)
    assert cell.reached is True
    assert make_cell("m", "fp32", (1, 1), "", 0.95, [run_of(90, 100)]).reached is False
    assert make_cell("m", "fp32", (1, 1), "", None, [run_of(90, 100, None)]).p99_ms is None


def test_the_markdown_has_a_row_for_each_cell() -> None:
    cells = tuple(make_cell("m", "fp32", (n, 1), "", 0.95, [run_of(90, 100)]) for n in (1, 16))
    text = limit_markdown(LimitReport("limit", this_machine(2), 3, 1.0, cells, (), False))
    rows = [line for line in text.splitlines() if line.startswith("| m |")]
    assert len(rows) == 2
    assert "| 16 | 1 | 90 ±0 | 100 ±0 | 0.90 ±0.00 | 0.95 MISSED |" in rows[1]
    assert "interrupted" in text
    assert shown(None, 2) == "-"


def test_percentiles_of_too_few_calls_are_not_given() -> None:
    few = Sample(31, 1.0, np.full(31, 1000), 0.0)
    assert (p50_ms(few, 16), p99_ms(few, 16)) == (None, None)
    assert (p50_ms(few, 1), p99_ms(few, 1)) == (1.0, None)
    assert p99_ms(Sample(200, 1.0, np.full(200, 1000), 0.0), 16) == 1.0


@pytest.mark.parametrize(("precision", "off", "holds"), [("fp32", 0.005, True), ("fp32", 0.02, False), ("int8", 0.4, True)])
def test_answers_are_held_to_raw_within_the_precision(precision: str, off: float, holds: bool) -> None:
    one = call([[10.0, -10.0]], precision)
    answer = one.expected + np.float32(off)
    if holds:
        one.check(answer, "ours")
    else:
        with pytest.raises(BenchError, match=r"void: ours: m is off by 0\.02"):
            one.check(answer, "ours")


def test_missing_rows_and_nan_are_wrong() -> None:
    one = call([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(BenchError, match=r"answered \(1, 2\); expected logits \(2, 2\)"):
        one.check(one.expected[:1], "ours")
    with pytest.raises(BenchError, match="off by nan"):
        one.check(one.expected * np.float32("nan"), "ours")


def test_logits_are_read_raw_and_as_contents() -> None:
    typed, raw = ModelInferResponse(), ModelInferResponse()
    typed.outputs.add(name="logits", shape=(2, 2)).contents.fp32_contents.extend([1, 2, 3, 4])
    raw.outputs.add(name="logits", shape=(2, 2))
    raw.raw_output_contents.append(np.array([[1, 2], [3, 4]], np.float32).tobytes())
    for response in (typed, raw):
        assert logits_of(response.SerializeToString()).tolist() == [[1, 2], [3, 4]]


def test_memory_growth_is_from_the_first_tenth() -> None:
    assert growth_percent([200, 300, 203]) == pytest.approx(1.5)
    assert growth_percent([200]) is None


def test_processes_below_the_root_are_found_and_named() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as root:
        assert root.stdout is not None
        assert root.stdout.readline() == b"1\n"  # the grandchild runs
        usage = usage_of(root.pid)
        names = kinds_of(usage, root.pid)
        root.communicate(b"\n")
    child = next(pid for pid in usage if pid != root.pid)
    assert usage[child].parent == root.pid
    assert min(one.resident_bytes for one in usage.values()) > 1 << 20
    assert names == {root.pid: "front end", child: f"child {child}"}
    assert usage_of(root.pid) == {}


def test_cpu_time_of_a_new_process_counts_whole() -> None:
    before, after = {1: Usage(0, 2.0, 0)}, {1: Usage(0, 2.5, 0), 2: Usage(1, 0.25, 0)}
    assert cpu_between(before, after) == {1: 0.5, 2: 0.25}


def open_sample(latencies_us: list[int], on_time: int, void: str = "") -> OpenSample:
    load = Load("", "m", rate=600.0, rows=8, seconds=1.0, slo=0.05)
    outcomes = Counter({"OK": len(latencies_us), "RESOURCE_EXHAUSTED": 400})
    histogram = new_histogram()
    for latency in latencies_us:
        record(histogram, 1e-6 * latency)
    tally = Tally(sent=600, answered=200, on_time=on_time, outcomes=outcomes, latency=encoded(histogram), wall_seconds=1.0)
    return OpenSample(load, (tally,), void)


def test_overload_counts_what_was_in_time_and_how_late_the_rest_was() -> None:
    run = summed_up(open_sample([40_000] * 190 + [53_000] * 10, 190), 200.0)
    assert (run.capacity, run.offered, run.goodput) == (1600, 4800, 1520)
    assert run.late_ms == pytest.approx(3, abs=0.1)
    assert run.refused == pytest.approx(2 / 3)


def test_an_overload_whose_generator_lagged_is_void() -> None:
    with pytest.raises(BenchError, match="void: the generator lagged"):
        summed_up(open_sample([40_000], 1, "the generator lagged"), 200.0)


def test_what_is_not_published_is_named(repository: Path, tmp_path: Path) -> None:
    assert names_in(repository) == ("resnet20",)
    assert find(repository, "resnet20", "fp32").label == "resnet20 fp32"
    with pytest.raises(BenchError, match="models: 'resnet99' is not published"):
        find(repository, "resnet99", "fp32")
    with pytest.raises(BenchError, match="precision: resnet20 is not published in int8; it has fp32"):
        find(repository, "resnet20", "int8")
    with pytest.raises(BenchError, match="holds no published model"):
        names_in(tmp_path)
    with pytest.raises(BenchError, match="is not a folder"):
        names_in(tmp_path / "absent")
