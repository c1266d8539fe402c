"""Requests, arrivals, figures and validity of a load."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.generators import agreement, check_service, merged, void_reason
from resnet_bench.drivers.open_loop import Tally, new_histogram, record, schedule
from resnet_bench.errors import BenchError
from resnet_bench.published import Material
from resnet_bench.requests import Requests, Tensor, framed, generated, image_request, logits_of
from resnet_bench.results import Facts
from resnet_bench.subject import Subject
from resnet_bench.target import Target
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

IMAGE = Tensor("image", "UINT8", (-1, 1, 1, 3))
LOAD = Load("m", rate=100.0, seconds=2.0, warm_up=1.0)


def tally(latencies_s: list[float], **changes: object) -> Tally:
    histogram = new_histogram()
    for latency in latencies_s:
        record(histogram, latency)
    count = len(latencies_s)
    known = {"sent": count, "answered": count, "in_time": count, "service_in_time": count, "outcomes": Counter(OK=count)}
    encoded = {"latency": bytes(histogram.encode()), "lag": bytes(new_histogram().encode())}
    return Tally(**{**encoded, **known, **changes})  # type: ignore[arg-type]


def test_poisson_arrivals_are_reproducible_independent_gaps() -> None:
    load = replace(LOAD, rate=500.0, seconds=20.0)
    times = schedule(load)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(500 * 21, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # of exponential gaps they are equal
    assert (schedule(load) == times).all()
    assert (schedule(replace(load, seed=1))[:10] != times[:10]).all()


def test_constant_arrivals_of_several_generators_interleave() -> None:
    load = replace(LOAD, arrivals="constant", rate=8.0, seconds=1.0, warm_up=1.0)
    times = sorted([*schedule(load.part(0, 2), 0, 2), *schedule(load.part(1, 2), 1, 2)])
    assert times == pytest.approx([index / 8 for index in range(16)])


def test_generators_share_the_calls_in_flight() -> None:
    load = Load("m", arrivals="closed", concurrency=5)
    assert [load.part(index, 3).concurrency for index in range(3)] == [2, 2, 1]


def subject(material: Material | None) -> Subject:
    return Subject(Target("", ""), Facts("m", "1"), None, material, (IMAGE,))


def test_requests_are_distinct_and_of_the_asked_size() -> None:
    material = Material(np.arange(8, dtype=np.uint8).reshape(8, 1, 1, 1).repeat(3, 3), np.arange(8))
    requests = subject(material).requests(3)
    assert len(set(requests.data)) == 3
    assert requests.classes is not None
    assert [list(classes) for classes in requests.classes] == [[0, 1, 2], [3, 4, 5], [6, 7, 0]]


@pytest.mark.parametrize("material", [None, Material(np.zeros((4, 1, 1, 3), np.uint8), None)])
def test_a_timeout_travels_as_a_parameter_in_microseconds(material: Material | None) -> None:
    message = ModelInferRequest.FromString(subject(material).requests(2, 0.05).data[0])
    assert message.parameters["timeout"].int64_param == 50_000
    assert not ModelInferRequest.FromString(subject(material).requests(2).data[0]).parameters


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


def test_a_message_is_framed_as_grpc_does() -> None:
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"


def test_logits_are_read_raw_and_as_contents() -> None:
    typed, raw = ModelInferResponse(), ModelInferResponse()
    typed.outputs.add(name="logits", shape=(2, 2)).contents.fp32_contents.extend([1, 2, 3, 4])
    raw.outputs.add(name="logits", shape=(2, 2))
    raw.raw_output_contents.append(np.array([[1, 2], [3, 4]], np.float32).tobytes())
    for response in (typed, raw):
        assert logits_of(response.SerializeToString()).tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(("off", "holds"), [(0.005, True), (0.02, False)])
def test_answers_are_held_to_raw(off: float, holds: bool) -> None:
    expected = np.array([[10.0, -10.0]], np.float32)
    requests = Requests("m", (b"",), expected=expected, allowed=0.01)
    if holds:
        requests.check(expected + np.float32(off), "ours")
    else:
        with pytest.raises(BenchError, match=r"ours: m is off by 0\.02"):
            requests.check(expected + np.float32(off), "ours")


def test_missing_rows_and_nan_are_wrong() -> None:
    requests = Requests("m", (b"",), expected=np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), allowed=0.01)
    assert requests.expected is not None
    with pytest.raises(BenchError, match=r"answered \(1, 2\); expected logits \(2, 2\)"):
        requests.check(requests.expected[:1], "ours")
    with pytest.raises(BenchError, match="off by nan"):
        requests.check(requests.expected * np.float32("nan"), "ours")


def test_tallies_of_several_processes_add_up() -> None:
    found = merged(replace(LOAD, rows=2), [tally([0.001] * 600), tally([0.1] * 3)])
    assert (found.calls, found.images) == (603, 603)
    assert found.latency_ms["p50"] == pytest.approx(1, rel=1e-2)
    assert found.latency_ms["max"] == pytest.approx(100, rel=1e-2)
    assert set(found.latency_ms) == {"mean", "p50", "p90", "p99", "max"}  # 603 calls are too few for a p99.9


def test_a_percentile_of_too_few_calls_is_not_given() -> None:
    assert set(merged(LOAD, [tally([0.001] * 499)]).latency_ms) == {"mean", "p50", "p90", "max"}


def test_goodput_counts_every_call_that_was_sent() -> None:
    part = tally([0.01] * 6, sent=10, in_time=5, outcomes=Counter(OK=6, RESOURCE_EXHAUSTED=3, UNANSWERED=1))
    found = merged(LOAD, [part])
    assert found.goodput == 0.5
    assert found.outcomes == {"OK": 6, "RESOURCE_EXHAUSTED": 3, "UNANSWERED": 1}


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
    found = void_reason(merged(LOAD, [tally([0.001] * 100, **changes)]), LOAD)
    assert found.startswith(reason)
    assert bool(found) == bool(reason)


def test_a_closed_loop_has_no_schedule_to_lag_behind() -> None:
    load = Load("m", arrivals="closed", concurrency=1)
    assert void_reason(merged(load, [tally([0.001] * 10, late=10, slip=9.0)]), load) == ""


def answer(classes: list[int]) -> bytes:
    response = ModelInferResponse()
    response.outputs.add(name="logits", datatype="FP32", shape=(len(classes), 10))
    response.raw_output_contents.append(np.eye(10, dtype=np.float32)[classes].tobytes())
    return response.SerializeToString()


def test_answers_are_compared_with_the_reference() -> None:
    kept = [(0, answer([3, 4])), (1, answer([5, 6]))]
    assert agreement("m", kept, [np.array([3, 4]), np.array([5, 7])]) == (3, 4)


@pytest.mark.parametrize(
    ("kept", "changes", "message"),
    [
        ([(0, answer([1]))], {}, "m: wrong answers: only 0 of 1 agree with the reference"),
        ([(0, answer([3, 3]))], {}, "m: 2 rows were answered for 1"),
        ([(0, b"\xff")], {}, "the answer is not a ModelInferResponse"),
        ([], {"outcomes": Counter(NOT_FOUND=1), "first_error": "NOT_FOUND: no"}, "m: the server refuses the call: NOT_FOUND: no"),
        ([], {"outcomes": Counter(UNAVAILABLE=1), "first_error": "UNAVAILABLE: gone"}, "m: the server became unreachable: UNAVAILABLE"),
    ],
)
def test_a_service_that_is_wrong_ends_the_benchmark(kept: list[tuple[int, bytes]], changes: dict[str, object], message: str) -> None:
    requests = Requests("key", (b"",), (np.array([3]),))
    with pytest.raises(BenchError, match=message):
        check_service(merged(LOAD, [tally([], **changes)]), requests, kept)


def test_an_image_request_names_its_tensor() -> None:
    message = ModelInferRequest.FromString(image_request("m", "2", "x", np.zeros((2, 1, 1, 3), np.uint8)))
    assert (message.model_name, message.model_version, message.inputs[0].name, list(message.inputs[0].shape)) == (
        "m",
        "2",
        "x",
        [2, 1, 1, 3],
    )
