"""h2load's output and log are read as they are, and a run whose answers are not whole is void."""

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.h2load import (
    H2load,
    Summary,
    arguments,
    connections,
    flood_void,
    flooded,
    measured,
    parse_log,
    parse_summary,
    require_h2load,
    settled,
    void_reason,
)
from resnet_bench.errors import BenchError
from resnet_bench.requests import Requests
from resnet_bench.target import Target
from resnet_proto.open_inference_pb2 import ModelInferResponse
from tools import needs_h2load

LOAD = Load("m", arrivals="closed", concurrency=4, warm_up=0.2, seconds=0.5)

PRINTED = """\
starting benchmark...
finished in 3.00s, 759.00 req/s, 86.17KB/s
requests: 1518 total, 1518 started, 1518 done, {counts}
status codes: {statuses}
traffic: 172.33KB (176467) total, 6.82KB (6984) headers (space savings 96.13%), 174.06KB (178240) data
                     min         max         mean         sd        +/- sd
time for request:     1.07ms    112.05ms     20.89ms     19.16ms    85.18%
"""
GOOD = PRINTED.format(counts="1518 succeeded, 0 failed, 0 errored, 0 timeout", statuses="1518 2xx, 0 3xx, 0 4xx, 0 5xx")


def test_the_summary_is_read() -> None:
    assert parse_summary(GOOD) == Summary(succeeded=1518, failed=0, body_bytes=178240)


@pytest.mark.parametrize(
    ("counts", "statuses"),
    [
        ("1516 succeeded, 2 failed, 0 errored, 0 timeout", "1516 2xx, 0 3xx, 0 4xx, 2 5xx"),
        ("1516 succeeded, 0 failed, 1 errored, 1 timeout", "1516 2xx, 0 3xx, 0 4xx, 0 5xx"),
    ],
)
def test_failures_are_counted_once(counts: str, statuses: str) -> None:
    assert parse_summary(PRINTED.format(counts=counts, statuses=statuses)).failed == 2


def test_a_missing_summary_names_the_last_line() -> None:
    with pytest.raises(BenchError, match="no summary; its last line is 'spawning thread'"):
        parse_summary("starting benchmark...\nspawning thread\n")


def test_latencies_come_from_the_log_without_what_failed() -> None:
    log = "1795552849969634\t200\t6606\n1795552849969635\t-1\t8129\n1795552849969636\t200\t8136\n"
    assert parse_log(log).tolist() == [[1795552849969634, 6606], [1795552849969636, 8136]]
    assert parse_log("").tolist() == []


def test_what_is_answered_while_the_loop_settles_and_after_the_time_does_not_count() -> None:
    starts = [0, 300_000, 499_000, 499_000, 1_000_000, 2_400_000, 2_499_000]
    ends = [400_000, 499_999, 500_000, 600_000, 1_100_000, 2_499_999, 2_500_000]
    log = "".join(f"{1_795_552_849_000_000 + start}\t200\t{end - start}\n" for start, end in zip(starts, ends, strict=True))
    assert settled(parse_log(log), 0.5, 2.0).tolist() == [1_000, 101_000, 100_000, 99_999]
    assert settled(parse_log(""), 0.5, 2.0).tolist() == []


def test_answers_count_from_the_end_of_the_lead_on() -> None:
    starts, latencies = np.arange(0, 3_000_000, 500_000), np.full(6, 1_500_000)
    log = np.stack([starts, latencies], axis=1)
    assert len(settled(log, 0.5, 1.0)) == 0
    assert len(settled(log, 1.5, 1.0)) == 2


def test_percentiles_and_rate_are_of_the_counted_calls() -> None:
    load = Load("m", arrivals="closed", concurrency=2, seconds=2.0, rows=3)
    sample = measured(load, 1000 * np.arange(1, 501), Summary(530, 0, 0), 0.5, "")
    assert (sample.calls, sample.achieved_rate, sample.images) == (500, 250, 750)
    assert sample.latency_ms["p50"] == pytest.approx(250.5)
    assert sample.latency_ms["p99"] == pytest.approx(495.01)
    assert sample.latency_ms["mean"] == pytest.approx(250.5)
    assert sample.in_time == 50
    assert measured(load, np.empty(0, np.int64), Summary(0, 0, 0), 0.0, "void").latency_ms == {}


def test_whole_answers_hold_and_so_do_bodies_cut_off_at_the_end() -> None:
    assert void_reason(Summary(100, 0, 8000), 4, 80, 90) == ""
    assert void_reason(Summary(100, 0, 8000 + 4 * 80), 4, 80, 90) == ""


@pytest.mark.parametrize(
    ("summary", "counted", "expected"),
    [
        (Summary(100, 0, 99 * 80), 90, "100 answers of 80 bytes brought 7,920 bytes; expected 8,000: some were errors"),
        (Summary(100, 0, 105 * 80), 90, "100 answers of 80 bytes"),
        (Summary(100, 3, 8000), 90, "3 requests failed beside 100"),
        (Summary(0, 0, 0), 0, "only 0 calls were answered with 4 in flight; measure longer (--duration)"),
        (Summary(100, 0, 8000), 7, "only 7 calls were answered with 4 in flight"),
    ],
)
def test_a_run_with_errors_or_too_few_calls_is_void(summary: Summary, counted: int, expected: str) -> None:
    assert void_reason(summary, 4, 80, counted).startswith(expected)


@pytest.mark.parametrize(("in_flight", "clients"), [(1, 1), (2, 2), (6, 3), (7, 1), (16, 4), (64, 4)])
def test_calls_are_spread_evenly_over_few_connections(in_flight: int, clients: int) -> None:
    found = arguments(Target("", "localhost:1"), Path("body"), in_flight)
    streams = int(found[found.index("-m") + 1])
    assert (connections(in_flight, http1=False), clients * streams) == (clients, in_flight)
    assert found[-1] == "http://localhost:1/inference.GRPCInferenceService/ModelInfer"


def test_http1_has_a_connection_for_each_call() -> None:
    found = arguments(Target("", "localhost:1", path="/predict", http1=True), Path("body"), 16)
    assert found[:5] == ["--h1", "-c", "16", "-m", "1"]
    assert found[-1] == "http://localhost:1/predict"


def test_a_missing_h2load_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="h2load: not found on this machine; install the package nghttp2-client"):
        require_h2load()


class Looking:
    """Is told when the counted time begins and ends."""

    def begin(self) -> None:
        pass

    def end(self) -> None:
        pass


def answered(request: bytes, context: grpc.ServicerContext) -> bytes:
    response = ModelInferResponse(model_name="m")
    response.outputs.add(name="logits", datatype="FP32", shape=(1, 10))
    response.raw_output_contents.append(bytes(40))
    return response.SerializeToString()


FLOOD = Load("m", arrivals="constant", rate=1000.0, warm_up=0.1, seconds=1.0, slo=0.05)


def flood_of(latencies_ms: list[int], body_bytes: int) -> tuple[Load, np.ndarray, Summary]:
    latencies = 1000 * np.array(latencies_ms, np.int64)
    starts = np.linspace(0, 999_000, len(latencies)).astype(np.int64)
    return FLOOD, np.stack([starts, latencies], axis=1), Summary(len(latencies), 0, body_bytes)


def test_of_a_flood_the_bodies_say_how_many_were_answered_and_the_slowest_stand_for_them() -> None:
    sample = flooded(*flood_of([1] * 400 + [40] * 580 + [60] * 20, 600 * 80), 80, 0.1)
    assert (sample.calls, sample.answered, sample.in_time, sample.outcomes) == (1000, 600, 580, {"OK": 600, "REFUSED": 400})
    assert (sample.latency_ms["p50"], sample.latency_ms["p99"]) == (40, 60)
    assert sample.void == ""


def test_a_flood_that_nobody_answers_has_no_latencies() -> None:
    sample = flooded(*flood_of([1] * 980 + [60] * 20, 0), 80, 0.1)
    assert (sample.answered, sample.in_time, sample.latency_ms, sample.outcomes) == (0, 0, {}, {"REFUSED": 1000})


@pytest.mark.parametrize(
    ("missing", "rest", "slip", "reason"),
    [
        (10, 0, 0.01, ""),
        (11, 0, 0.0, "11 of 1000 calls were not sent or not answered"),
        (0, 3, 0.0, "3 bytes of bodies are no whole answer"),
        (0, 0, 0.011, "the generator lagged: it was 11 ms behind its schedule at the end"),
    ],
)
def test_a_flood_is_void_where_calls_are_lost_cut_or_late(missing: int, rest: int, slip: float, reason: str) -> None:
    assert flood_void(FLOOD, missing, 1000, rest, slip) == reason


@needs_h2load
def test_a_real_flood_counts_its_refusals(serve: Callable[..., AbstractContextManager[str]]) -> None:
    count = itertools.count()

    def full_every_fourth_time(request: bytes, context: grpc.ServicerContext) -> bytes:
        agent = str(dict(context.invocation_metadata()).get("user-agent", ""))
        if "grpc-python" not in agent and next(count) % 4 == 3:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return answered(request, context)

    load = replace(FLOOD, rate=200.0, warm_up=0.1, seconds=0.5, slo=10.0)
    with serve(full_every_fourth_time, 2) as url:
        sample = H2load().run(Target("stub", url), Requests("m", (b"any",)), load, Looking())
    assert sample.outcomes == {"OK": 75, "REFUSED": 25}
    assert sample.in_time == 75
    assert sample.generator_cpu > 0


@needs_h2load
def test_a_real_loop_is_measured(serve: Callable[..., AbstractContextManager[str]]) -> None:
    with serve(answered, 4) as url:
        sample = H2load().run(Target("stub", url), Requests("m", (b"any",)), LOAD, Looking())
    assert sample.void == ""
    assert sample.outcomes == {"OK": sample.calls}
    assert sample.calls >= 8
    assert sample.generator_cpu > 0


@needs_h2load
def test_errors_void_a_real_loop_though_http_says_200(serve: Callable[..., AbstractContextManager[str]]) -> None:
    count = itertools.count()

    def failing(request: bytes, context: grpc.ServicerContext) -> bytes:
        agent = str(dict(context.invocation_metadata()).get("user-agent", ""))
        if "grpc-python" not in agent and next(count) % 5 == 4:  # the driver's own calls, before and after the loop, are answered
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return answered(request, context)

    with serve(failing, 1) as url:
        sample = H2load().run(Target("stub", url), Requests("m", (b"any",)), LOAD, Looking())
    assert "some were errors" in sample.void


@needs_h2load
def test_a_wrong_answer_before_the_loop_ends_it(serve: Callable[..., AbstractContextManager[str]]) -> None:
    requests = Requests("m", (b"any",), expected=np.ones((1, 10), np.float32), allowed=0.5)
    with serve(answered) as url, pytest.raises(BenchError, match=r"stub: m is off by 1 from raw ONNX Runtime; expected at most 0\.5"):
        H2load().run(Target("stub", url), requests, LOAD, Looking())
