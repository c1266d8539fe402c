"""What is noted is counted once, at the latest by the next scrape."""

import threading

from prometheus_client import CollectorRegistry, Counter, generate_latest
from resnet_server.metrics.buffer import BULK, MetricsBuffer


def test_a_scrape_finds_all_that_was_noted() -> None:
    registry, ledger = CollectorRegistry(), MetricsBuffer()
    registry.register(ledger)
    counter = Counter("things", "Things.", registry=registry)
    for _ in range(3):
        ledger.note(counter.inc, 2)
    assert b"things_total 6.0" in generate_latest(registry)
    assert b"things_total 6.0" in generate_latest(registry)


def test_no_more_than_a_bulk_is_held() -> None:
    ledger, seen = MetricsBuffer(), list[float]()
    for value in range(BULK - 1):
        ledger.note(seen.append, value)
    assert seen == []
    ledger.note(seen.append, BULK - 1)
    assert seen == list(range(BULK))


def test_two_threads_that_settle_count_each_note_once() -> None:
    ledger, seen = MetricsBuffer(), list[float]()
    done = threading.Event()

    def settle() -> None:
        while not done.is_set():
            ledger.settle()

    thread = threading.Thread(target=settle)
    thread.start()
    for value in range(20_000):
        ledger.note(seen.append, value)
    done.set()
    thread.join()
    ledger.settle()
    assert sorted(seen) == list(range(20_000))


def test_a_note_that_fails_does_not_hide_as_an_empty_ledger() -> None:
    ledger, seen = MetricsBuffer(), list[float]()

    def fail(value: float) -> None:
        raise IndexError(value)

    ledger.note(fail, 1)
    ledger.note(seen.append, 2)
    try:
        ledger.settle()
    except IndexError:
        ledger.settle()
    assert seen == [2]
