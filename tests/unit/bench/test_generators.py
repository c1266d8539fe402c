"""Generator processes against a small gRPC server that does as it is told."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import pytest
from resnet_bench.errors import BenchError
from resnet_bench.load.generators import Generators
from resnet_bench.load.request import Requests
from resnet_bench.load.spec import Load

REQUESTS = Requests("stub", (b"first", b"second"))
Answer = Callable[[bytes, grpc.ServicerContext], bytes]


@contextmanager
def stub(answer: Answer, threads: int = 1) -> Iterator[str]:
    """Serve ModelInfer with `answer`, as bytes; calls beyond the threads wait in the server."""
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server = grpc.server(ThreadPoolExecutor(threads), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", {"ModelInfer": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


@pytest.fixture(scope="module")
def generators() -> Iterator[Generators]:
    with Generators() as running:
        yield running


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    return request


def test_latency_counts_from_the_intended_time(generators: Generators) -> None:
    """One answer is held back for half of the run: in a closed loop one call notices, in an open loop all that should have been sent."""
    held = threading.Event()

    def stalling(request: bytes, context: grpc.ServicerContext) -> bytes:
        if not held.is_set():
            held.set()
            threading.Event().wait(0.5)
        return request

    with stub(stalling) as url:
        load = Load(url, "m", arrivals="constant", rate=100.0, warm_up=0.001, seconds=1.0, slo=10.0)
        open_loop = generators.run(load, REQUESTS)
        held.clear()
        closed_loop = generators.run(Load(url, "m", arrivals="closed", concurrency=1, warm_up=0.001, seconds=1.0, slo=10.0), REQUESTS)
    assert open_loop.sent == pytest.approx(100, abs=1)
    assert open_loop.latency_ms(75) > 100
    assert closed_loop.latency_ms(50) < 100 < closed_loop.latency_ms(100)


def test_a_closed_loop_keeps_calls_in_flight(generators: Generators) -> None:
    with stub(echo, 4) as url:
        sample = generators.run(Load(url, "m", arrivals="closed", concurrency=3, rows=2, warm_up=0.05, seconds=0.3), REQUESTS)
    assert sample.outcomes == {"OK": sample.sent}
    assert sample.throughput == pytest.approx(2 * sample.sent / 0.3)
    assert sample.generator_cpu > 0


def test_outcomes_are_counted_by_status(generators: Generators) -> None:
    def refusing(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"second":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return request

    with stub(refusing, 4) as url:
        sample = generators.run(Load(url, "m", arrivals="constant", rate=50.0, warm_up=0.001, seconds=0.4, slo=5.0), REQUESTS)
    assert sample.outcomes["OK"] == sample.outcomes["RESOURCE_EXHAUSTED"] == 10
    assert sample.goodput == 0.5
    assert sample.first_error == "RESOURCE_EXHAUSTED: full"


def test_a_deadline_is_sent_and_counted(generators: Generators) -> None:
    release = threading.Event()

    def hanging(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(5)
        return request

    with stub(hanging) as url:
        load = Load(url, "m", arrivals="constant", rate=20.0, warm_up=0.001, seconds=0.3, slo=0.05, deadline=0.1)
        sample = generators.run(load, REQUESTS)
        release.set()
    assert sample.outcomes == {"DEADLINE_EXCEEDED": sample.sent}
    assert sample.sent >= 6
    assert sample.goodput == 0


def test_calls_without_an_answer_are_given_up_and_counted(generators: Generators) -> None:
    release = threading.Event()

    def hanging(request: bytes, context: grpc.ServicerContext) -> bytes:
        release.wait(10)
        return request

    with stub(hanging) as url:
        sample = generators.run(Load(url, "m", arrivals="constant", rate=20.0, warm_up=0.001, seconds=0.2, slo=0.01), REQUESTS)
        release.set()
    assert sample.outcomes == {"UNANSWERED": sample.sent}


def test_an_overloaded_generator_voids_its_run_and_tries_once_more(generators: Generators) -> None:
    with stub(echo, 2) as url:
        load = Load(url, "m", arrivals="poisson", rate=100_000.0, warm_up=0.001, seconds=0.2, slo=0.01)
        sample = generators.run_valid(load, REQUESTS)
    assert sample.void.startswith("the generator ")


def test_several_generators_add_up() -> None:
    with Generators(2) as two, stub(echo, 4) as url:
        sample = two.run(Load(url, "m", arrivals="constant", rate=60.0, warm_up=0.001, seconds=0.5, slo=5.0), REQUESTS)
    assert [part.sent for part in sample.parts] == [15, 15]
    assert sample.outcomes["OK"] == 30


def test_nobody_at_the_address_is_said() -> None:
    with Generators() as fresh, pytest.raises(BenchError, match=r"url: no server answers at 127\.0\.0\.1:1"):
        fresh.run(Load("127.0.0.1:1", "m", arrivals="closed", concurrency=1), REQUESTS)
