"""Requests, arrivals, figures and validity of a load."""

from collections import Counter

import numpy as np
import pytest
from resnet_bench.errors import BenchError
from resnet_bench.load.arrivals import schedule
from resnet_bench.load.histogram import encoded, merged, new_histogram, percentile_ms, record
from resnet_bench.load.request import Requests, Tensor, from_images, generated
from resnet_bench.load.sample import Sample, Tally
from resnet_bench.load.spec import Load
from resnet_bench.load.validity import agreement, check_service, judged, void_reason
from resnet_bench.material import Material
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

IMAGE = Tensor("image", "UINT8", (-1, 1, 1, 3))


def open_load(**changes: object) -> Load:
    return Load(**{"url": "", "model": "m", "rate": 100.0, "seconds": 2.0, "warm_up": 1.0, **changes})  # type: ignore[arg-type]


def tally(latencies_s: list[float], **changes: object) -> Tally:
    histogram = new_histogram()
    for latency in latencies_s:
        record(histogram, latency)
    empty = encoded(new_histogram())
    known = {"sent": len(latencies_s), "answered": len(latencies_s), "outcomes": Counter(OK=len(latencies_s))}
    return Tally(**{"latency": encoded(histogram), "lag": empty, "wall_seconds": 1.0, **known, **changes})  # type: ignore[arg-type]


def test_poisson_arrivals_are_reproducible_independent_gaps() -> None:
    load = open_load(rate=500.0, seconds=20.0)
    times = schedule(load)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(500 * 21, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of exponential gaps they are equal
    assert (schedule(load) == times).all()
    assert (schedule(open_load(rate=500.0, seconds=20.0, seed=1))[:10] != times[:10]).all()


def test_constant_arrivals_of_several_generators_interleave() -> None:
    load = open_load(arrivals="constant", rate=8.0, seconds=1.0, warm_up=1.0)
    times = sorted([*schedule(load.part(0, 2), 0, 2), *schedule(load.part(1, 2), 1, 2)])
    assert times == pytest.approx([index / 8 for index in range(16)])


def test_generators_share_the_calls_in_flight() -> None:
    load = Load("", "m", arrivals="closed", concurrency=5)
    assert [load.part(index, 3).concurrency for index in range(3)] == [2, 2, 1]


def test_requests_are_distinct_and_of_the_asked_size() -> None:
    material = Material(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1).repeat(3, 3), np.arange(8))
    requests = from_images("m", "1", IMAGE, material, 3)
    assert len(set(requests.data)) == 3
    assert requests.classes is not None
    assert [list(classes) for classes in requests.classes] == [[0, 1, 2], [3, 4, 5], [6, 7, 0]]


def test_generated_requests_fit_any_tensor() -> None:
    requests = generated("m", "", (Tensor("x", "FP32", (-1, 4)), Tensor("mask", "BOOL", (2,))), 1)
    message = ModelInferRequest.FromString(requests.data[0])
    assert [tuple(tensor.shape) for tensor in message.inputs] == [(1, 4), (2,)]
    assert [len(raw) for raw in message.raw_input_contents] == [16, 2]
    assert len(set(requests.data)) == len(requests.data)


@pytest.mark.parametrize(
    ("tensor", "rows", "message"),
    [
        (Tensor("x", "BYTES", (-1,)), 1, "input: 'x' is BYTES; expected one of BOOL, UINT8"),
        (Tensor("x", "FP32", (-1, -1)), 1, r"input: 'x' has shape \[-1, -1\]; say its size with --input"),
        (Tensor("x", "FP32", (4,)), 2, r"rows: 2; 'x' has the fixed shape \[4\], expected 1"),
    ],
)
def test_a_tensor_that_cannot_be_made_up_is_named(tensor: Tensor, rows: int, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        generated("m", "", (tensor,), rows)


def test_histograms_of_several_processes_add_up() -> None:
    sample = Sample(open_load(rows=2), (tally([0.001] * 99), tally([0.1])))
    assert sample.throughput == 100
    assert sample.latency_ms(50) == pytest.approx(1, rel=1e-2)
    assert sample.latency_ms(100) == pytest.approx(100, rel=1e-2)
    assert percentile_ms(merged([]), 99) == 0


def test_goodput_counts_every_call_that_was_sent() -> None:
    part = tally([0.01] * 6, sent=10, on_time=5, outcomes=Counter(OK=6, RESOURCE_EXHAUSTED=3, UNANSWERED=1))
    sample = Sample(open_load(), (part,))
    assert sample.goodput == 0.5
    assert sample.outcomes == {"OK": 6, "RESOURCE_EXHAUSTED": 3, "UNANSWERED": 1}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"late": 1}, ""),
        ({"late": 2}, "the generator lagged: it sent 2.0 % of the calls more than 5 ms late"),
        ({"slip": 0.019}, ""),
        ({"slip": 0.021}, "the generator lagged: it was 21 ms behind its schedule at the end"),
        ({"cpu_seconds": 0.89}, ""),
        ({"cpu_seconds": 0.91}, "the generator ran out of CPU: it used 0.91 of a core"),
    ],
)
def test_a_run_is_void_where_the_generator_lags(changes: dict[str, object], reason: str) -> None:
    found = void_reason(Sample(open_load(), (tally([0.001] * 100, **changes),)))
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_a_closed_loop_has_no_schedule_to_lag_behind() -> None:
    load = Load("", "m", arrivals="closed", concurrency=1)
    assert judged(Sample(load, (tally([0.001] * 10, late=10, slip=9.0),))).void == ""


def answer(classes: list[int]) -> bytes:
    response = ModelInferResponse()
    response.outputs.add(name="logits", datatype="FP32", shape=(len(classes), 10))
    response.raw_output_contents.append(np.eye(10, dtype=np.float32)[classes].tobytes())
    return response.SerializeToString()


def test_answers_are_compared_with_the_reference() -> None:
    sample = Sample(open_load(), (tally([], kept=[(0, answer([3, 4])), (1, answer([5, 6]))]),))
    assert agreement(sample, [np.array([3, 4]), np.array([5, 7])]) == (3, 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kept": [(0, answer([1]))]}, "m: wrong answers: only 0 of 1 agree with the reference"),
        ({"kept": [(0, answer([3, 3]))]}, "m: 2 rows were answered for 1"),
        ({"kept": [(0, b"\xff")]}, "the answer is not a ModelInferResponse"),
        ({"outcomes": Counter(NOT_FOUND=1), "first_error": "NOT_FOUND: no"}, "m: the server refuses the call: NOT_FOUND: no"),
        ({"outcomes": Counter(UNAVAILABLE=1), "first_error": "UNAVAILABLE: gone"}, "m: the server became unreachable: UNAVAILABLE: gone"),
    ],
)
def test_a_service_that_is_wrong_ends_the_benchmark(changes: dict[str, object], message: str) -> None:
    requests = Requests("key", (b"",), (np.array([3]),))
    with pytest.raises(BenchError, match=message):
        check_service(Sample(open_load(), (tally([], **changes),)), requests)
