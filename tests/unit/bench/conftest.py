"""Made-up results, for what is drawn, saved and compared."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from resnet_bench.schema import Capacity, CurvePoint, Facts, Machine, ModelResult, Point, Report, Split, Spread

MakeReport = Callable[..., Report]


def spread(value: float, share: float = 0.03) -> Spread:
    return Spread(value, value * (1 - share), value * (1 + share))


def make_point(kind: str, images: float, alone_ms: float, load: float) -> Point:
    p50 = alone_ms * (1 + load)
    closed = kind in ("single", "saturation", "closed")
    return Point(
        kind=kind,
        arrivals="closed" if closed else "poisson",
        rate=0.0 if closed else load * images,
        concurrency=1 if closed else 0,
        rows=1,
        calls=1000,
        outcomes={"OK": 995, "RESOURCE_EXHAUSTED": 5},
        goodput=Spread(0.995, 0.99, 1.0),
        throughput=spread(load * images),
        mean_ms=spread(1.1 * p50),
        p50_ms=spread(p50),
        p90_ms=spread(1.6 * p50),
        p99_ms=spread(2.5 * p50),
        p999_ms=spread(3 * p50),
        efficiency=spread(0.9 * load),
        cpu_seconds=spread(2000 / images),
        split=Split(spread(0.3 * p50), spread(0.5 * p50), spread(0.8)),
        batch_rows={"1": 500, "2": 200, "4": 100, "8": 20, "16": 5, "more": 0},
        lag_p99_ms=spread(0.2),
        generator_cpu=spread(0.3),
        repeats=3,
    )


def make_model(depth: int, trained: bool = True, images: float | None = None) -> ModelResult:
    rate = images or 100_000 / depth
    alone_ms = 0.05 * depth
    facts = Facts(
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
        certified_accuracy=None,
        agreement=1.0,
        input_size=32,
    )
    points = [make_point(kind, rate, alone_ms, load) for kind, load in (("single", 0.1), ("saturation", 1.1), ("half", 0.5), ("busy", 0.8))]
    curve = tuple(
        CurvePoint(share * rate, min(1.0, share) * rate, 1.0, alone_ms, 3 * alone_ms / max(0.05, 1.1 - share), share <= 1)
        for share in (0.5, 0.52, 0.8, 0.95, 1.0, 1.06)
    )
    capacity = Capacity(spread(rate), spread(0.8))
    return ModelResult(facts, spread(rate / 0.8), "2 x 1 threads, batch 8", capacity, tuple(points), curve, 150 * 2**20)


@pytest.fixture
def make_report() -> MakeReport:
    """A report of models of these depths; `changes` replace fields of it."""

    def make(*depths: int, trained: bool = True, **changes: object) -> Report:
        machine = Machine("A processor", 2, "Linux x86_64", "3.13.0", {"onnxruntime": "1.31.1"})
        models = tuple(make_model(depth, trained) for depth in depths)
        report = Report("resnet-bench depths", machine, 3, 3.0, 0.05, 1, 1, 0, models, created_at="2026-11-24T00:00:00+00:00")
        return replace(report, **changes)  # type: ignore[arg-type]  # fields by name

    return make
