"""What is read of a server's metrics and processes."""

import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from resnet_bench.errors import BenchError
from resnet_bench.peers.triton import FAILURES
from resnet_bench.target import Target, parsed, scrape
from resnet_server.metrics.metrics import Metrics


def counted(calls: int) -> str:
    """The page of a server that has answered so many calls in two batches."""
    metrics = Metrics(CollectorRegistry())
    for _ in range(calls):
        metrics.requests.labels("m", "1", "ModelInfer", "OK").inc()
        metrics.request_seconds.labels("m", "1", "ModelInfer").observe(0.010)
        metrics.request_seconds.labels("m", "1", "ModelMetadata").observe(9.0)
        metrics.queue_seconds.labels("m", "1", "fp32").observe(0.002)
        metrics.queue_seconds.labels("other", "1", "fp32").observe(9.0)
    metrics.requests.labels("m", "1", "ModelInfer", "RESOURCE_EXHAUSTED").inc(3)
    for rows in (1, calls - 1):
        metrics.batch_rows.labels("m", "1", "fp32").observe(rows)
        metrics.compute_seconds.labels("m", "1", "fp32").observe(0.005)
    return generate_latest(metrics.registry).decode()


def test_the_metrics_of_one_model_are_summed_up() -> None:
    found = parsed(counted(5), "m", "1")
    assert (found.sums["ok"], found.sums["failed"]) == (5, 3)
    times = found.times()
    assert times is not None
    assert (times.queue_ms, times.total_ms, times.batch_ms) == pytest.approx((2.0, 10.0, 5.0))
    assert {bucket: count for bucket, count in times.batch_rows.items() if count} == {"1": 1, "4": 1}
    assert parsed(counted(5), "unknown").times() is None


def test_what_came_before_is_taken_away() -> None:
    found = parsed(counted(9), "m").since(parsed(counted(5), "m"))
    assert (found.sums["ok"], found.sums["failed"]) == (4, 0)
    assert {bucket: count for bucket, count in found.batch_rows.items() if count} == {4: -1, 8: 1}


def test_a_peers_failures_are_counted_by_its_own_names() -> None:
    text = (
        '# TYPE nv_inference_request_failure counter\nnv_inference_request_failure{model="m",reason="OTHER",version="1"} 4\n'
        'nv_inference_request_failure{model="m",reason="BACKEND",version="1"} 2\n'
        'nv_inference_request_failure{model="m",reason="CANCELED",version="1"} 16\n'  # in flight when a closed loop ended
        'nv_inference_request_failure{model="other",reason="OTHER",version="1"} 9\n'
    )
    (name,) = FAILURES
    assert parsed(text, "m").sums[name] == 6


def test_metrics_that_cannot_be_read_are_said() -> None:
    with pytest.raises(BenchError, match=r"metrics-url: http://127\.0\.0\.1:1/metrics cannot be read: "):
        scrape("http://127.0.0.1:1/metrics", "m", "1")


def test_children_count_with_their_process() -> None:
    grandchild = "import sys; sum(range(3 * 10**6)); print('up', flush=True); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        target = Target("web", "", process.pid)
        found = target.usage()
        assert len(found) == 2
        assert found[process.pid].name == "server"
        assert all(usage.pss_bytes > 1 << 20 for usage in found.values())
        assert all(usage.pss_bytes == 0 for usage in target.usage(memory=False).values())
        assert target.cpu_seconds() >= sum(usage.cpu_seconds for usage in found.values()) > 0
        process.communicate("")
    assert target.usage() == {}
    assert target.cpu_seconds() == 0
    assert Target("another's", "").usage() == {}


def test_shared_pages_count_once() -> None:
    """Two processes that share 64 MiB hold 64 MiB together, not 128."""
    script = (
        "import mmap, os, sys\n"
        "block = mmap.mmap(-1, 64 << 20)\n"
        "block.write(b'x' * (64 << 20))\n"
        "child = os.fork()\n"
        "block.seek(0); block.read()\n"
        "os.write(1, b'u')\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"uu"
        found = Target("", "", process.pid).usage()
        assert len(found) == 2
        assert 64 << 20 < sum(usage.pss_bytes for usage in found.values()) < 110 << 20
        process.communicate(b"")
