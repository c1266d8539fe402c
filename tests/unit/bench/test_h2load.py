"""h2load's output and log are read as they are, and a run whose answers are not whole is void."""

from pathlib import Path

import numpy as np
import pytest
from resnet_bench.errors import BenchError
from resnet_bench.h2load import Drive, Sample, Summary, check_summary, parse_log, parse_summary, require_h2load, settled

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
    assert parse_summary(GOOD) == Summary(succeeded=1518, failed=0, body_bytes=178240, seconds=3.0)


@pytest.mark.parametrize(
    ("counts", "statuses"),
    [
        ("1516 succeeded, 2 failed, 0 errored, 0 timeout", "1516 2xx, 0 3xx, 0 4xx, 2 5xx"),
        ("1516 succeeded, 0 failed, 1 errored, 1 timeout", "1516 2xx, 0 3xx, 0 4xx, 0 5xx"),
    ],
)
def test_failures_are_counted_once(counts: str, statuses: str) -> None:
    assert parse_summary(PRINTED.format(counts=counts, statuses=statuses)).failed == 2


@pytest.mark.parametrize(("text", "seconds"), [("99.08ms", 0.09908), ("2.50s", 2.5), ("4.50m", 270.0), ("812us", 812e-6)])
def test_every_unit_of_time_is_read(text: str, seconds: float) -> None:
    assert parse_summary(GOOD.replace("3.00s", text)).seconds == pytest.approx(seconds)


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
    assert settled(parse_log(log), 2.0).tolist() == [1_000, 101_000, 100_000, 99_999]
    assert settled(parse_log(""), 2.0).tolist() == []


def test_percentiles_and_rate_are_of_the_counted_calls() -> None:
    sample = Sample(130, 2.0, 1000 * np.arange(1, 101), 0.5)
    assert (sample.counted, sample.rate) == (100, 50)
    assert sample.latency_ms(50) == pytest.approx(50.5)
    assert sample.latency_ms(99) == pytest.approx(99.01)
    assert sample.mean_ms == pytest.approx(50.5)


def test_whole_answers_hold_and_so_do_bodies_cut_off_at_the_end() -> None:
    check_summary(Summary(100, 0, 8000, 1.0), 4, 80)
    check_summary(Summary(100, 0, 8000 + 4 * 80, 1.0), 4, 80)


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (Summary(100, 0, 99 * 80, 1.0), "void: 100 answers of 80 bytes brought 7,920 bytes; expected 8,000: some were errors"),
        (Summary(100, 0, 105 * 80, 1.0), "void: 100 answers of 80 bytes"),
        (Summary(100, 3, 8000, 1.0), "void: 3 requests failed beside 100"),
        (Summary(0, 0, 0, 1.0), "void: no request was answered"),
    ],
)
def test_a_run_with_errors_is_void(summary: Summary, expected: str) -> None:
    with pytest.raises(BenchError, match=expected):
        check_summary(summary, 4, 80)


@pytest.mark.parametrize(("in_flight", "connections"), [(1, 1), (2, 2), (6, 3), (7, 1), (16, 4), (64, 4)])
def test_calls_are_spread_evenly_over_few_connections(in_flight: int, connections: int) -> None:
    drive = Drive("http://localhost/x", Path("body"), in_flight)
    arguments = drive.arguments()
    streams = int(arguments[arguments.index("-m") + 1])
    assert (drive.connections, drive.connections * streams) == (connections, in_flight)


def test_http1_has_a_connection_for_each_call() -> None:
    arguments = Drive("http://localhost/x", Path("body"), 16, ("content-type: a",), http1=True).arguments()
    assert arguments[:5] == ["--h1", "-c", "16", "-m", "1"]


def test_a_missing_h2load_names_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchError, match="h2load: not found on this machine; install the package nghttp2-client"):
        require_h2load()
