"""The result of `resnet-bench depths` as data: what `results.json` holds. docs/benchmark.md describes it for readers of the file."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FORMAT = 2
PACKAGES = ("resnet-serving", "onnxruntime-gpu", "onnxruntime", "grpcio", "numpy", "protobuf", "hdrhistogram")


@dataclass(frozen=True)
class Spread:
    """Median, least and greatest of the repeats."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    @classmethod
    def of_some(cls, values: Sequence[float | None]) -> "Spread | None":
        """Of the values that are known; None without any."""
        known = [value for value in values if value is not None]
        return cls.of(known) if known else None


@dataclass(frozen=True)
class Facts:
    """What the server, the manifest and the certificate say of a model.

    `accuracy` is the trained network's top-1 in percent on `accuracy_images`; `certified_accuracy` that of the file which is served,
    on the certificate's images. Agreement is 0..1. None and empty text: not known, as for the models of other servers.
    """

    name: str
    version: str
    variant: str
    depth: int | None
    parameters: int | None
    multiply_adds: int | None
    trained: bool
    accuracy: float | None
    accuracy_images: str
    precision: str
    provider: str
    plan: str
    certificate_id: str
    certified_accuracy: float | None
    agreement: float | None
    input_size: int | None

    @property
    def label(self) -> str:
        """Its name, with what a reader must not overlook."""
        return self.name if self.trained else f"{self.name} (untrained)"


@dataclass(frozen=True)
class Split:
    """Where a call's mean time went, in milliseconds: waiting for its batch, in the server from then on, and the rest.

    `compute` is from the batch's start to the answer, with decoding and encoding; `wire` is gRPC on both sides, the network and the
    generator.
    """

    queue: Spread
    compute: Spread
    wire: Spread


@dataclass(frozen=True)
class Point:
    """One load on one model.

    `kind` is single (one call after the other), saturation (closed loop, many calls), half and busy (50 % and 80 % of capacity), rate
    or closed (as asked for). Open loop: `rate` calls a second arrive; closed loop: `concurrency` are in flight. Latencies in
    milliseconds of OK answers from the intended send time; `goodput` is the share of all calls answered OK within the SLO, 0..1;
    `throughput` and `efficiency` in images a second and of raw; `cpu_seconds` of the server per 1,000 images. `batch_rows` counts
    batches by the upper end of their bucket of rows. `lag_p99_ms` is how late the generator sent, `generator_cpu` what it used, in
    cores. `repeats` is the number of runs that count, `voids` says why others do not.
    """

    kind: str
    arrivals: str
    rate: float
    concurrency: int
    rows: int
    calls: int
    outcomes: dict[str, int]
    goodput: Spread
    throughput: Spread
    mean_ms: Spread
    p50_ms: Spread
    p90_ms: Spread
    p99_ms: Spread
    p999_ms: Spread
    efficiency: Spread | None
    cpu_seconds: Spread | None
    split: Split | None
    batch_rows: dict[str, int]
    lag_p99_ms: Spread
    generator_cpu: Spread
    repeats: int
    voids: tuple[str, ...] = ()

    @property
    def load(self) -> str:
        """The load in words."""
        text = f"{self.concurrency} in flight" if self.arrivals == "closed" else f"{self.rate:,.4g}/s"
        return f"{text}, {self.rows} rows" if self.rows > 1 else text


@dataclass(frozen=True)
class CurvePoint:
    """One open-loop run, of the search for the capacity or else: what was offered and what came back."""

    rate: float
    throughput: float
    goodput: float
    p50_ms: float
    p99_ms: float
    met: bool


@dataclass(frozen=True)
class Capacity:
    """The highest rate, in images a second, at which p99 is within the SLO and goodput at least 99 %; one search a repeat.

    None where no rate meets it. `bound` is "generator" where a void run ended a search: the server may do more.
    """

    images: Spread | None
    efficiency: Spread | None
    reason: str = ""
    bound: str = ""


@dataclass(frozen=True)
class ModelResult:
    """Facts, raw ONNX Runtime of the same file (images a second, with its best plan; None: not measured) and the loads.

    `memory_bytes` is the sum of the highest resident memory of the server and of each engine's process, None where it is not ours.
    `voids` are the loads of which no run counts, with the reason.
    """

    facts: Facts
    raw_throughput: Spread | None
    raw_plan: str
    capacity: Capacity | None
    points: tuple[Point, ...]
    curve: tuple[CurvePoint, ...]
    memory_bytes: int | None
    voids: tuple[str, ...] = ()

    def point(self, kind: str) -> Point | None:
        """The first point of a kind."""
        return next((point for point in self.points if point.kind == kind), None)


@dataclass(frozen=True)
class Machine:
    """Where it was measured."""

    processor: str
    cores: int
    system: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Report:
    """A whole benchmark; `complete` is False where it was interrupted. SLO and seconds in seconds.

    `generator_niceness` is the scheduling priority that the generators had: below 0 goes before the server.
    """

    command: str
    machine: Machine
    repeats: int
    seconds: float
    slo: float
    rows: int
    generators: int
    generator_niceness: int
    models: tuple[ModelResult, ...]
    complete: bool = True
    format: int = FORMAT
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def save(self, folder: Path) -> Path:
        """Write results.json into `folder` and return its path."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "results.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return path


def this_machine(cores: int) -> Machine:
    """The machine and the versions that run."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return Machine(_processor(), cores, f"{platform.system()} {platform.machine()}", platform.python_version(), versions)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
