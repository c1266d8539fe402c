"""The depth comparison: every published model under the same loads, with raw ONNX Runtime of the same file beside it.

Repeats are interleaved: each goes over all models before the next begins, so that drift of the machine touches all alike.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierStub

from resnet_bench.errors import BenchError
from resnet_bench.load import Load, Sample, measure
from resnet_bench.material import Material, material_of
from resnet_bench.raw import RawPlan, best_plan, throughput
from resnet_bench.schema import Cell, Facts, ModelResult, Spread
from resnet_bench.server_process import Target

WARM_UP_SECONDS = 0.5
CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Plan:
    """What to measure: concurrencies and rows per call, `repeats` times `seconds` each."""

    concurrencies: tuple[int, ...]
    rows: tuple[int, ...]
    repeats: int
    seconds: float
    cores: int

    @property
    def loads(self) -> list[tuple[int, int]]:
        """All (concurrency, rows)."""
        return [(concurrency, rows) for rows in self.rows for concurrency in self.concurrencies]


@dataclass
class Subject:
    """A model under test, and what was measured of it so far."""

    facts: Facts
    path: Path | None
    material: Material
    raw_plan: RawPlan | None = None
    raw: list[float] = field(default_factory=list)
    samples: dict[tuple[int, int], list[tuple[Sample, float | None]]] = field(default_factory=dict)


class Comparison:
    """Runs a plan; `subjects` hold what is measured, so that an interrupted run loses nothing."""

    def __init__(self, target: Target, plan: Plan, subjects: list[Subject]) -> None:
        self._target = target
        self._plan = plan
        self.subjects = subjects

    @property
    def steps(self) -> int:
        """How many steps `run` reports."""
        return self._plan.repeats * len(self.subjects) * (1 + len(self._plan.loads))

    def run(self, on_step: Callable[[str], None]) -> None:
        """Measure everything, telling `on_step` what comes next. Raises BenchError for a void run."""
        for repeat in range(self._plan.repeats):
            for subject in self.subjects:
                name = f"{subject.facts.name} {repeat + 1}/{self._plan.repeats}"
                on_step(f"{name}: raw ONNX Runtime")
                self._measure_raw(subject)
                for concurrency, rows in self._plan.loads:
                    on_step(f"{name}: {concurrency} in flight, {rows} rows")
                    self._measure_load(subject, concurrency, rows)

    def results(self) -> tuple[ModelResult, ...]:
        """What is known of every model of which something was measured."""
        return tuple(self._result(subject) for subject in self.subjects if subject.samples)

    def _measure_raw(self, subject: Subject) -> None:
        if subject.path is None:
            return
        facts = subject.facts
        if subject.raw_plan is None:
            subject.raw_plan = best_plan(subject.path, facts.provider, subject.material, self._plan.cores)
        subject.raw.append(throughput(subject.path, facts.provider, subject.raw_plan, subject.material, self._plan.seconds))

    def _measure_load(self, subject: Subject, concurrency: int, rows: int) -> None:
        facts = subject.facts
        load = Load(self._target.url, facts.name, facts.version, facts.precision, concurrency, rows, WARM_UP_SECONDS, self._plan.seconds)
        before = self._target.cpu_seconds()
        sample = measure(load, subject.material)
        after = self._target.cpu_seconds()
        share = self._plan.seconds / (self._plan.seconds + WARM_UP_SECONDS)  # the warm-up computed images, too
        cpu = None if before is None or after is None else 1000 * (after - before) * share / sample.rows
        subject.samples.setdefault((concurrency, rows), []).append((sample, cpu))

    def _result(self, subject: Subject) -> ModelResult:
        raw = Spread.of(subject.raw) if subject.raw else Spread(0.0, 0.0, 0.0)
        cells = tuple(make_cell(key, samples, raw.median) for key, samples in subject.samples.items())
        return ModelResult(subject.facts, raw, str(subject.raw_plan) if subject.raw_plan else "not measured", cells)


def make_cell(key: tuple[int, int], samples: list[tuple[Sample, float | None]], raw: float) -> Cell:
    """Sum up the repeats of one load; `raw` in images a second, 0 if unknown."""
    runs = [sample for sample, _ in samples]
    cpu = [seconds for _, seconds in samples if seconds is not None]
    rates = [run.throughput for run in runs]
    return Cell(
        concurrency=key[0],
        rows=key[1],
        calls=sum(run.calls for run in runs),
        throughput=Spread.of(rates),
        p50_ms=Spread.of([run.latency_ms(50) for run in runs]),
        p90_ms=Spread.of([run.latency_ms(90) for run in runs]),
        p99_ms=Spread.of([run.latency_ms(99) for run in runs]),
        efficiency=Spread.of([rate / raw if raw else 0.0 for rate in rates]),
        cpu_seconds=Spread.of(cpu) if cpu else None,
    )


def find_subjects(target: Target, names: tuple[str, ...], repository: Path | None) -> list[Subject]:
    """Ask the server what it serves, shallow networks first; raise BenchError for no answer or a model that is not there."""
    with grpc.insecure_channel(target.url) as channel:
        try:
            models = ClassifierStub(channel).ListModels(pb.ListModelsRequest(), timeout=CONNECT_SECONDS).models
        except grpc.RpcError as error:
            raise BenchError(f"url: no resnet-server answers at {target.url} ({status_of(error)})") from None
    ready = {model.name: model for model in models if model.state == pb.ServedModel.STATE_READY}
    if missing := [name for name in names if name not in ready]:
        raise BenchError(f"models: {', '.join(missing)} not served; the server has {', '.join(ready) or 'none'}")
    chosen = [ready[name] for name in names] if names else list(ready.values())
    subjects = [_subject(model, repository) for model in chosen]
    return sorted(subjects, key=lambda subject: (subject.facts.multiply_adds, subject.facts.name))


def status_of(error: Exception) -> str:
    """The gRPC status of a failed call; the stubs do not know that the error is the call."""
    return error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"


def _subject(model: pb.ServedModel, repository: Path | None) -> Subject:
    manifest = model.manifest
    artifact = next(a for a in manifest.artifacts if a.precision == model.precision)
    certificate = artifact.certificate if artifact.HasField("certificate") else None
    network, source = manifest.network, manifest.source
    facts = Facts(
        name=model.name,
        version=model.version,
        variant=network.variant,
        depth=network.depth,
        parameters=network.parameters,
        multiply_adds=network.multiply_adds,
        trained=network.trained,
        accuracy=source.accuracy if source.HasField("accuracy") else None,
        accuracy_images=source.accuracy_images,
        precision=model.precision,
        provider=model.provider,
        certificate_id=certificate.id if certificate else "",
        agreement=certificate.top1_agreement if certificate else None,
        input_size=manifest.input.height,
    )
    folder = repository / model.name / model.version if repository is not None else None
    return Subject(facts, folder / artifact.file if folder else None, material_of(manifest, folder))
