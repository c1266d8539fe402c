"""Counters of versions that are out of service: those of the latest stay, and a repository that goes on for years fills nothing."""

import time

from prometheus_client import CollectorRegistry, generate_latest
from resnet_server.endpoints.error_status import Border
from resnet_server.metrics.metrics import MOST_GONE, Metrics


def answer(border: Border, version: str) -> None:
    record = border.record("ModelInfer", time.monotonic())
    record.model, record.version = "net", version
    border.answered(record)


def test_counters_of_the_versions_that_went_last_stay_and_older_ones_begin_anew() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    border = Border(metrics, time.monotonic)

    def counted(version: str) -> float | None:
        metrics.buffer.settle()
        labels = {"model": "net", "version": version, "method": "ModelInfer", "status": "OK"}
        return registry.get_sample_value("resnet_requests_total", labels)

    def come_and_go(version: str) -> None:
        metrics.in_service("net", version)
        border.expect("net", version)
        answer(border, version)
        metrics.images.labels("net", version, "fp32").inc()
        metrics.buffer.settle()
        metrics.out_of_service("net", version)

    for number in range(1, MOST_GONE + 1):
        come_and_go(str(number))
    size = len(generate_latest(registry))
    assert counted("1") == 1
    come_and_go("1")  # it is now the one that went last
    assert counted("1") == 2
    for number in range(100, 100 + 3 * MOST_GONE):
        come_and_go(str(number))
    assert (counted("1"), counted("2")) == (None, None)
    assert counted(str(99 + 3 * MOST_GONE)) == 1
    assert len(generate_latest(registry)) < 1.2 * size
    assert metrics.statistics.of(("net", "2")).success.count == 0
    come_and_go("1")
    assert counted("1") == 1  # it is shown again, and begins at 0
    metrics.in_service("net", "1")
    for number in range(200, 200 + 3 * MOST_GONE):
        come_and_go(str(number))
    assert counted("1") == 1  # what serves is never dropped
