"""Generator processes against a small gRPC server that does as it is told."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import grpc
import pytest
from resnet_bench.drivers.api import Load
from resnet_bench.drivers.generators import Generators
from resnet_bench.errors import BenchError
from resnet_bench.requests import Requests
from resnet_bench.sample import Sample
from resnet_bench.target import Target

REQUESTS = Requests("stub", (b"first", b"second"))
Serve = Callable[..., AbstractContextManager[str]]


class Nobody:
    """Looks at nothing, but counts."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def begin(self) -> None:
        self.seen.append("begin")

    def end(self) -> None:
        self.seen.append("end")


@pytest.fixture(scope="module")
def generators() -> Iterator[Generators]:
    with Generators() as running:
        yield running


def run(generators: Generators, url: str, load: Load) -> Sample:
    return generators.run(Target("stub", url), REQUESTS, load, Nobody())


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    return request


class Held:
    """Holds the first call back until the generator has been told to send many more."""

    def __init__(self, until: int) -> None:
        self.release, self._left, self._lock = threading.Event(), until, threading.Lock()
        self._first = True

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            first, self._first = self._first, False
            self._left -= 1
            if not self._left:
                self.release.set()
        if first:
            self.release.wait(30)
        return request


def test_latency_counts_from_the_intended_time(generators: Generators, serve: Serve) -> None:
    """One answer is held back until the 50th call arrives; behind a server of two threads the rest go on, and that one waited 0.5 s."""
    held = Held(50)
    with serve(held.answer, 2) as url:
        sample = run(generators, url, Load("m", arrivals="constant", rate=100.0, warm_up=0.0, seconds=1.0, slo=10.0))
    assert sample.calls == pytest.approx(100, abs=1)
    assert sample.latency_ms["max"] > 400


class Releasing(Nobody):
    """Lets the held call go when the counted time is over."""

    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held

    def end(self) -> None:
        self._held.release.set()


def test_in_an_open_loop_all_that_should_have_been_sent_meanwhile_is_late(generators: Generators, serve: Serve) -> None:
    """A server that answers one call at a time holds the first until all are sent: each is late by its own wait."""
    held = Held(10_000)
    load = Load("m", arrivals="constant", rate=50.0, warm_up=0.0, seconds=1.0, slo=10.0)
    with serve(held.answer) as url:
        sample = generators.run(Target("stub", url), REQUESTS, load, Releasing(held))
    assert sample.outcomes == {"OK": sample.calls}
    assert sample.latency_ms["p50"] > 400
    assert sample.latency_ms["max"] > 900


def test_a_closed_loop_keeps_calls_in_flight(generators: Generators, serve: Serve) -> None:
    with serve(echo, 4) as url:
        sample = run(generators, url, Load("m", arrivals="closed", concurrency=3, rows=2, warm_up=0.05, seconds=0.3))
    assert sample.outcomes == {"OK": sample.calls}
    assert sample.images == pytest.approx(2 * sample.calls / 0.3)
    assert sample.generator_cpu > 0


def test_a_closed_loops_call_that_is_never_answered_is_counted(generators: Generators, serve: Serve) -> None:
    held = Held(10_000_000)
    with serve(held.answer, 2) as url:
        sample = run(generators, url, Load("m", arrivals="closed", concurrency=2, warm_up=0.05, seconds=0.3, slo=0.01))
        held.release.set()
    assert sample.outcomes["UNANSWERED"] == 1
    assert sample.outcomes["OK"] == sample.calls - 1


def test_outcomes_are_counted_by_status(generators: Generators, serve: Serve) -> None:
    def refusing(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"second":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return request

    with serve(refusing, 4) as url:
        sample = run(generators, url, Load("m", arrivals="constant", rate=50.0, warm_up=0.001, seconds=0.4, slo=10.0))
    assert sample.outcomes == {"OK": 10, "RESOURCE_EXHAUSTED": 10}
    assert sample.goodput == 0.5
    assert sample.first_error == "RESOURCE_EXHAUSTED: full"


def test_a_deadline_is_sent_and_counted(generators: Generators, serve: Serve) -> None:
    held = Held(10_000)

    def hanging(request: bytes, context: grpc.ServicerContext) -> bytes:
        held.release.wait(30)
        return request

    with serve(hanging) as url:
        sample = run(generators, url, Load("m", arrivals="constant", rate=20.0, warm_up=0.001, seconds=0.3, slo=0.05, deadline=0.1))
        held.release.set()
    assert sample.outcomes == {"DEADLINE_EXCEEDED": sample.calls}
    assert sample.calls >= 5
    assert sample.goodput == 0


def test_calls_without_an_answer_are_given_up_and_counted(generators: Generators, serve: Serve) -> None:
    release = threading.Event()

    def hanging(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(30)
        return request

    with serve(hanging) as url:
        sample = run(generators, url, Load("m", arrivals="constant", rate=20.0, warm_up=0.001, seconds=0.2, slo=0.01))
        release.set()
    assert sample.outcomes == {"UNANSWERED": sample.calls}


def test_an_overloaded_generator_voids_its_run(generators: Generators, serve: Serve) -> None:
    with serve(echo, 2) as url:
        sample = run(generators, url, Load("m", rate=100_000.0, warm_up=0.001, seconds=0.2, slo=0.01))
    assert sample.void.startswith("the generator ")


def test_several_generators_and_connections_add_up(serve: Serve) -> None:
    peers: set[str] = set()

    def noting(request: bytes, context: grpc.ServicerContext) -> bytes:
        peers.add(context.peer())
        return request

    with Generators(2) as two, serve(noting, 4) as url:
        sample = run(two, url, Load("m", arrivals="constant", rate=60.0, warm_up=0.001, seconds=0.5, slo=10.0, connections=2))
    assert sample.outcomes == {"OK": 30}
    assert len(peers) == 4


def test_the_observer_is_told_when_the_counted_time_begins_and_ends(generators: Generators, serve: Serve) -> None:
    observer = Nobody()
    with serve(echo) as url:
        generators.run(Target("stub", url), REQUESTS, Load("m", arrivals="closed", concurrency=1, warm_up=0.05, seconds=0.1), observer)
    assert observer.seen == ["begin", "end"]


def test_generators_are_of_use_again_after_nobody_answered(serve: Serve) -> None:
    """One of two that cannot connect leaves the other waiting for a start that never comes."""
    load = Load("m", arrivals="closed", concurrency=2, warm_up=0.01, seconds=0.1, slo=5.0)
    with Generators(2) as two:
        with pytest.raises(BenchError, match=r"url: no server answers at 127\.0\.0\.1:1"):
            run(two, "127.0.0.1:1", load)
        with serve(echo, 2) as url:
            assert run(two, url, load).outcomes["OK"] > 0
