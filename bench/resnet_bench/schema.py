"""The result of a benchmark as data: what `results.json` holds."""

import json
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

FORMAT = 1
PACKAGES = ("resnet-serving", "onnxruntime-gpu", "onnxruntime", "grpcio", "numpy", "protobuf")


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


@dataclass(frozen=True)
class Facts:
    """What the server and the certificate say of a model; accuracy in percent, agreement 0..1."""

    name: str
    version: str
    variant: str
    depth: int
    parameters: int
    multiply_adds: int
    trained: bool
    accuracy: float | None
    accuracy_images: str
    precision: str
    provider: str
    certificate_id: str
    agreement: float | None
    input_size: int


@dataclass(frozen=True)
class Cell:
    """One load on one model: closed loop, `concurrency` calls of `rows` images in flight.

    Throughput in images a second; latencies in milliseconds from sending to the answer; `cpu_seconds` is the
    server's CPU time per 1,000 images (None where the server is not ours); efficiency is throughput over raw.
    """

    concurrency: int
    rows: int
    calls: int
    throughput: Spread
    p50_ms: Spread
    p90_ms: Spread
    p99_ms: Spread
    efficiency: Spread
    cpu_seconds: Spread | None


@dataclass(frozen=True)
class ModelResult:
    """Facts, raw ONNX Runtime of the same file (images a second, with its best plan) and a cell for each load."""

    facts: Facts
    raw_throughput: Spread
    raw_plan: str
    cells: tuple[Cell, ...]


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
    """A whole benchmark; `complete` is False where it was interrupted."""

    command: str
    machine: Machine
    repeats: int
    seconds: float
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
