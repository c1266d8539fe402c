"""Made-up results, for what is drawn, saved and compared."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import grpc
import pytest
from resnet_bench.machine import Disturbance, Machine
from resnet_bench.results import Facts, Report, Search, Settings
from resnet_bench.sample import Sample, ServerTimes

MakeReport = Callable[..., Report]
REPEATS = (0.97, 1.0, 1.03, 0.99, 1.01)


def make_sample(depth: int, kind: str, repeat: int, rate: float, trained: bool = True) -> Sample:
    noise = REPEATS[repeat]
    closed = kind in ("single", "saturation", "raw")
    load = {"single": 0.1, "raw": 1.25, "saturation": 1.1, "half": 0.5, "high": 0.8}.get(kind, rate / (100_000 / depth))
    p50 = 0.05 * depth * (1 + load) * noise
    images = load * 100_000 / depth / noise
    return Sample(
        f"resnet{depth}",
        "onnxruntime" if kind == "raw" else "grpc.aio",
        "closed" if closed else "poisson",
        0.0 if closed else rate,
        1 if closed else 0,
        1,
        3.0,
        0.05,
        None,
        repeat,
        target="raw" if kind == "raw" else "ours",
        precision="fp32",
        kind=kind,
        repeat=repeat,
        calls=round(3 * images),
        outcomes={"OK": round(3 * images)},
        answered=round(3 * images),
        in_time=round(3 * images),
        service_in_time=round(3 * images),
        latency_ms={} if kind == "raw" else {"mean": 1.1 * p50, "p50": p50, "p90": 1.6 * p50, "p99": 2.5 * p50, "max": 4 * p50},
        lag_p99_ms=0.2,
        generator_cpu=0.3,
        cpu={"server": 1000 / images, "engine 7": 1000 / images, "generator": 0.1},
        memory={"server": 60 << 20, "engine 7": 90 << 20},
        server=ServerTimes(0.3 * p50, 0.8 * p50, p50, {"1": 500, "2": 200, "4": 100, "8": 20, "16": 5, "more": 0}),
        machine=Disturbance(2, 3.0, 0.0, 0.01, None, {"cpu": 0.2}),
    )


def make_facts(depth: int, trained: bool) -> Facts:
    return Facts(
        name=f"resnet{depth}",
        version="1",
        variant=f"resnet{depth}",
        depth=depth,
        parameters=13_000 * depth,
        multiply_adds=2_000_000 * depth,
        trained=trained,
        accuracy=91 + depth**0.5 / 5 if trained else None,
        accuracy_images="test images",
        precision="fp32",
        provider="CPUExecutionProvider",
        plan="2 engines x 1 threads, batches of up to 8",
        certificate_id="c" * 64,
        agreement=1.0,
        input_size=32,
        raw_plan="2 x 1 threads, batches of 8",
    )


@pytest.fixture
def make_report() -> MakeReport:
    """A report of models of these depths; `changes` replace fields of it."""

    def make(*depths: int, trained: bool = True, repeats: int = 5, **changes: object) -> Report:
        samples, searches = [], []
        equal = 0.8 * 100_000 / max(depths, default=1)
        for depth in depths:
            rate = 100_000 / depth
            rates = {
                "raw": 0.0,
                "single": 0.0,
                "saturation": 0.0,
                "probe": 1.1 * rate,
                "half": 0.5 * rate,
                "high": 0.8 * rate,
                "equal": equal,
            }
            for repeat in range(repeats):
                samples += [make_sample(depth, kind, repeat, at, trained) for kind, at in rates.items()]
                searches.append(Search(f"resnet{depth}", "fp32", repeat, rate / REPEATS[repeat], 0.98 * rate / REPEATS[repeat]))
        machine = Machine("A processor", 2, "Linux x86_64", "6.1", {"cpu": "max"}, "v1-0-gabc", "3.13.0", {"onnxruntime": "1.31.1"})
        settings = Settings(repeats, 1, 3.0, 0.05, 1, 1, False)
        models = tuple(make_facts(depth, trained) for depth in depths)
        report = Report("depths", "resnet-bench depths", machine, settings, models, tuple(samples), tuple(searches))
        return replace(report, created_at="2026-11-24T00:00:00+00:00", **changes)  # type: ignore[arg-type]  # fields by name

    return make


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


@pytest.fixture
def serve() -> Callable[..., object]:
    """The context manager `stub`."""
    return stub
