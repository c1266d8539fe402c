"""A result as data: what results.json holds, whatever command wrote it. docs/explanation/benchmark.md lists its fields."""

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from resnet_bench.errors import BenchError
from resnet_bench.machine import Machine
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary

FORMAT = 3
FILE, TABLE = "results.json", "results.csv"
DERIVED = ("images", "achieved_rate", "goodput", "cpu_seconds", "memory_bytes")
Figure = Callable[[Sample], float | None]


@dataclass(frozen=True)
class Facts:
    """What the server, the manifest and the certificate say of a model.

    `accuracy` is the trained network's top-1 in percent on `accuracy_images`; `certified_accuracy` that of the file which is served,
    on the certificate's images. Agreement is 0..1. None and empty text: not known, as for the models of other servers.
    """

    name: str
    version: str = ""
    variant: str = ""
    depth: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    trained: bool = True
    accuracy: float | None = None
    accuracy_images: str = ""
    precision: str = ""
    provider: str = ""
    plan: str = ""
    certificate_id: str = ""
    certified_accuracy: float | None = None
    agreement: float | None = None
    input_size: int | None = None
    raw_plan: str = ""

    @property
    def label(self) -> str:
        """Its name, with what a reader must not overlook."""
        return self.name if self.trained else f"{self.name} (untrained)"


@dataclass(frozen=True)
class Search:
    """One repeat's search for a model's capacity, in images a second.

    The rate `found` by short runs, and the one a longer run `confirmed`; None with the `reason` where there is none. `bound` is
    "generator" where a void run ended it: the server may do more.
    """

    model: str
    precision: str
    repeat: int
    found: float | None
    confirmed: float | None
    reason: str = ""
    bound: str = ""


@dataclass(frozen=True)
class Settings:
    """How it was measured. `seeds` arrival sequences a repeat; seconds of a run; SLO in seconds; images a call in the search.

    `shares` are those of `peers`: of the slowest server's throughput, at which all were sent the same rate.
    """

    repeats: int
    seeds: int
    seconds: float
    slo: float
    rows: int
    generators: int
    allow_disturbed: bool
    shares: tuple[float, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole benchmark; `complete` is False where it was interrupted or failed, `problems` say what does not count and why."""

    command: str
    arguments: str
    machine: Machine
    settings: Settings
    models: tuple[Facts, ...]
    samples: tuple[Sample, ...]
    searches: tuple[Search, ...] = ()
    problems: tuple[str, ...] = ()
    complete: bool = True
    format: int = FORMAT
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    @cached_property
    def results(self) -> "tuple[ModelResult, ...]":
        """What is known of each model of which something was measured."""
        return tuple(found for facts in self.models if (found := ModelResult.of(self, facts)).samples)

    def save(self, folder: Path) -> list[Path]:
        """Write results.json and results.csv into `folder` and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        whole = folder / f".{FILE}"
        whole.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        whole.replace(folder / FILE)  # whatever happens, there is a whole file
        _save_csv(self.samples, folder / TABLE)
        return [folder / FILE, folder / TABLE]


@dataclass(frozen=True)
class Cell:
    """The runs of one load on one target: those that count, and why others do not."""

    runs: tuple[Sample, ...]
    voids: tuple[str, ...]
    first: Sample

    def summary(self, figure: Figure) -> Summary | None:
        """Of one figure over the runs that count."""
        return Summary.of(figure(run) for run in self.runs)

    def latency(self, name: str) -> Summary | None:
        """Of a percentile or the mean, in milliseconds."""
        return self.summary(lambda run: run.latency_ms.get(name))

    def by_repeat(self, figure: Figure) -> dict[int, float]:
        """The mean of a repeat's runs, for every repeat that has one."""
        found: dict[int, list[float]] = {}
        for run in self.runs:
            if (value := figure(run)) is not None:
                found.setdefault(run.repeat, []).append(value)
        return {repeat: sum(values) / len(values) for repeat, values in found.items()}

    def total(self, parts: Iterable[dict[str, int]]) -> dict[str, int]:
        """Counts added up by name, in the order in which names come."""
        counts: dict[str, int] = {}
        for part in parts:
            for name, count in part.items():
                counts[name] = counts.get(name, 0) + count
        return counts

    @property
    def batch_rows(self) -> dict[str, int]:
        """Batches by the upper end of their bucket of rows, over all runs."""
        return self.total(run.server.batch_rows for run in self.runs if run.server is not None)


def key_of(sample: Sample) -> tuple[object, ...]:
    """What runs of one load on one target share."""
    where = (sample.model, sample.precision, sample.target, sample.setup, sample.kind, sample.driver)
    return *where, sample.arrivals, sample.rate, sample.concurrency, sample.rows


def cells(samples: Iterable[Sample]) -> dict[tuple[object, ...], Cell]:
    """Runs grouped by `key_of`, in the order in which they were measured."""
    groups: dict[tuple[object, ...], list[Sample]] = {}
    for sample in samples:
        groups.setdefault(key_of(sample), []).append(sample)
    return {
        key: Cell(tuple(run for run in runs if not run.void), tuple(run.void for run in runs if run.void), runs[0])
        for key, runs in groups.items()
    }


@dataclass(frozen=True)
class ModelResult:
    """One model's part of a report."""

    facts: Facts
    samples: tuple[Sample, ...]
    searches: tuple[Search, ...]

    @classmethod
    def of(cls, report: Report, facts: Facts) -> "ModelResult":
        """The samples and searches of this model in this precision."""
        key = (facts.name, facts.precision)
        samples = tuple(sample for sample in report.samples if (sample.model, sample.precision) == key)
        return cls(facts, samples, tuple(search for search in report.searches if (search.model, search.precision) == key))

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """Its loads."""
        return tuple(cells(self.samples).values())

    def cell(self, kind: str) -> Cell | None:
        """The first load of a kind of which a run counts."""
        return next((cell for cell in self.cells if cell.first.kind == kind and cell.runs), None)

    def figure(self, kind: str, figure: Figure) -> Summary | None:
        """A figure of that load."""
        cell = self.cell(kind)
        return None if cell is None else cell.summary(figure)

    @property
    def raw(self) -> Summary | None:
        """Images a second of raw ONNX Runtime."""
        return self.figure("raw", lambda run: run.images)

    @property
    def confirmed(self) -> Summary | None:
        """Images a second that the repeats confirmed."""
        return Summary.of(search.confirmed for search in self.searches)

    @property
    def capacity(self) -> float | None:
        """The published one: the lowest that a repeat confirmed."""
        return self.confirmed.low if self.confirmed else None

    @property
    def efficiency(self) -> float | None:
        """The published capacity's share of raw."""
        return self.capacity / self.raw.median if self.capacity and self.raw and self.raw.median else None

    @property
    def memory_bytes(self) -> int | None:
        """The most that the target's processes held after any run, shared pages counted once."""
        return max((sample.memory_bytes for sample in self.samples if sample.memory_bytes), default=None)


def read_report(path: Path) -> Report:
    """Read a results.json, or the one in a folder; raises BenchError where there is none or it has another format."""
    file = path / FILE if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise BenchError(f"{file}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise BenchError(f"{file}: is not JSON; expected a results.json of resnet-bench") from None
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise BenchError(f"{file}: format is {found!r}; this release reads {FORMAT}")
    try:
        return TypeAdapter(Report).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BenchError(f"{file}: is not a result of resnet-bench: {where}: {first['msg']}") from None


def _save_csv(samples: Sequence[Sample], path: Path) -> None:
    """A row for each run, as the JSON has it, with what is derived from it; an unknown figure is an empty cell."""
    plain = [item.name for item in fields(Sample) if item.name not in ("latency_ms", "outcomes", "cpu", "memory", "server", "machine")]
    latencies = ("mean", "p50", "p90", "p99", "p99.9", "max")
    split = ("queue_ms", "service_ms", "outside_ms")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*plain, *DERIVED, *(f"{name}_ms" for name in latencies), *split, "steal", "others", "outcomes"])
        for sample in samples:
            values = [getattr(sample, name) for name in (*plain, *DERIVED)]
            values += [sample.latency_ms.get(name) for name in latencies] + list(sample.split_ms or (None,) * len(split))
            outcomes = " ".join(f"{status}:{count}" for status, count in sample.outcomes.items())
            writer.writerow([*values, sample.machine.steal, sample.machine.others, outcomes])
