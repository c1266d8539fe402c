"""What is read of the server's own metrics, and of its processes."""

import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from resnet_bench import process_tree
from resnet_bench.errors import BenchError
from resnet_bench.scrape import parsed, scrape
from resnet_server.metrics.metrics import Metrics


def counted(calls: int) -> str:
    """The page of a server that has answered so many calls in two batches."""
    metrics = Metrics(CollectorRegistry())
    for _ in range(calls):
        metrics.request_seconds.labels("m", "1", "ModelInfer").observe(0.010)
        metrics.request_seconds.labels("m", "1", "ModelMetadata").observe(9.0)
        metrics.queue_seconds.labels("m", "1", "fp32").observe(0.002)
        metrics.queue_seconds.labels("other", "1", "fp32").observe(9.0)
    for rows in (1, calls - 1):
        metrics.batch_rows.labels("m", "1", "fp32").observe(rows)
    return generate_latest(metrics.registry).decode()


def test_the_metrics_of_one_model_are_summed_up() -> None:
    found = parsed(counted(5), "m", "1")
    assert (found.requests, found.queued, found.rows, found.batches) == (5, 5, 5, 2)
    assert (found.server_ms, found.queue_ms) == pytest.approx((10.0, 2.0))
    assert {bucket: count for bucket, count in found.batch_rows.items() if count} == {1: 1, 4: 1}


def test_what_came_before_is_taken_away() -> None:
    found = parsed(counted(9), "m", "").since(parsed(counted(5), "m", ""))
    assert (found.requests, found.rows) == (4, 4)
    assert {bucket: count for bucket, count in found.batch_rows.items() if count} == {4: -1, 8: 1}


def test_metrics_that_cannot_be_read_are_said() -> None:
    with pytest.raises(BenchError, match=r"metrics-url: http://127\.0\.0\.1:1/metrics cannot be read: "):
        scrape("http://127.0.0.1:1/metrics", "m", "1")


def test_children_count_with_their_process() -> None:
    grandchild = "import sys; print('up', flush=True); sum(range(10**7)); sys.stdin.read()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    with subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        found = process_tree.tree(process.pid)
        assert len(found) == 2
        assert set(found) <= set(process_tree.tree(os.getpid()))
        assert (process_tree.peak_memory_bytes(process.pid) or 0) > (process_tree.peak_memory_bytes(found[1]) or 0) > 0
        process.communicate("")
    assert (process_tree.cpu_seconds(os.getpid()) or 0) > 0
    assert process_tree.cpu_seconds(process.pid) is None
