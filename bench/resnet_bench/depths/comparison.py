"""Runs the comparison. Repeats are interleaved: each goes over all models before the next begins, so that drift touches all alike."""

from collections.abc import Callable

from resnet_bench.depths.capacity import FIRST_STEP, Verdict, search
from resnet_bench.depths.plan import WARM_UP_SECONDS, Plan
from resnet_bench.depths.record import Record, Run
from resnet_bench.depths.subject import Subject
from resnet_bench.depths.watch import ServerWatch
from resnet_bench.errors import BenchError
from resnet_bench.load.generators import Generators
from resnet_bench.load.spec import Arrivals, Load
from resnet_bench.raw import best_plan, throughput
from resnet_bench.schema import ModelResult

HALF, BUSY = 0.5, 0.8
LATER_STEP = 1.1  # later repeats begin at the first one's capacity
FIRST_SHARE = 0.8  # of saturation: where the first search begins


class Comparison:
    """Runs a plan; `records` hold what is measured, so that an interrupted run loses nothing.

    `on_step` is told what comes next.
    """

    def __init__(self, plan: Plan, subjects: list[Subject], generators: Generators, on_step: Callable[[str], None]) -> None:
        self._plan = plan
        self._generators = generators
        self._on_step = on_step
        self._name = ""
        self._repeat = 0
        ordered = sorted(subjects, key=lambda subject: (subject.facts.multiply_adds or 0, subject.facts.name))
        self.records = [Record(subject, plan.rows[0]) for subject in ordered]

    def run(self, on_model: Callable[[], None] = lambda: None) -> None:
        """Measure everything; `on_model` is told when a repeat of a model is done.

        Raises BenchError where the service fails or its answers are wrong.
        """
        for repeat in range(self._plan.repeats):
            self._repeat = repeat
            for record in self.records:
                facts = record.subject.facts
                self._name = f"{facts.name} {facts.precision} {repeat + 1}/{self._plan.repeats}"
                self._one_model(record)
                on_model()

    def results(self) -> tuple[ModelResult, ...]:
        """What is known of every model of which something was measured."""
        return tuple(record.result() for record in self.records if record.runs)

    @property
    def niceness(self) -> int:
        """The scheduling priority that the generators had."""
        return max((run.sample.parts[0].niceness for record in self.records for run in record.runs), default=0)

    def _one_model(self, record: Record) -> None:
        self._measure_raw(record)
        self._run(record, "single", "closed", concurrency=1, rows=1)
        if self._plan.searches:
            self._search(record)
        for rows in self._plan.rows:
            for rate in self._plan.rates:
                self._run(record, "rate", self._plan.arrivals, rate=rate, rows=rows)
            for concurrency in self._plan.concurrencies:
                self._run(record, "closed", "closed", concurrency=concurrency, rows=rows)

    def _measure_raw(self, record: Record) -> None:
        subject, plan = record.subject, self._plan
        provider = subject.facts.provider
        if subject.path is None or subject.material is None or not provider.endswith("ExecutionProvider"):
            return
        self._on_step(f"{self._name}: raw ONNX Runtime")
        if record.raw_plan is None:
            record.raw_plan = best_plan(subject.path, provider, subject.material, plan.cores)
        record.raw.append(throughput(subject.path, provider, record.raw_plan, subject.material, plan.seconds))

    def _search(self, record: Record) -> None:
        """Saturation, then the capacity within the SLO, then 50 % and 80 % of it."""
        plan, rows = self._plan, self._plan.rows[0]
        alone = min(run.sample.latency_ms(50) for run in record.runs if run.kind == "single") / 1e3
        if not record.in_flight:
            record.in_flight = plan.saturating(alone)
        full = self._run(record, "saturation", "closed", concurrency=record.in_flight, rows=rows)
        found = self._capacity(record, alone, max(full.sample.throughput / rows, 1 / alone))
        record.capacities.append(found)
        capacity = record.first_capacity
        if capacity is not None:
            self._run(record, "half", "poisson", rate=HALF * capacity, rows=rows)
            self._run(record, "busy", "poisson", rate=BUSY * capacity, rows=rows)

    def _capacity(self, record: Record, alone: float, saturation: float) -> float | None:
        slo_ms = 1e3 * self._plan.slo
        if 1e3 * alone > slo_ms:
            record.why_none = f"a call alone takes {1e3 * alone:.3g} ms (p50), more than the SLO of {slo_ms:g} ms"
            return None
        known = record.first_capacity

        def probe(rate: float) -> Verdict:
            run = self._run(record, "probe", "poisson", rate=rate, rows=self._plan.rows[0])
            return run.verdict

        found = search(probe, known or FIRST_SHARE * saturation, LATER_STEP if known else FIRST_STEP)
        record.bound_by_generator |= found.bound_by_generator
        if found.rate is None:
            record.why_none = f"no rate met the SLO of {slo_ms:g} ms: p99 and goodput missed it down to the lowest that was tried"
        return found.rate

    def _run(self, record: Record, kind: str, arrivals: Arrivals, rows: int, rate: float = 0.0, concurrency: int = 0) -> Run:
        plan, subject = self._plan, record.subject
        facts = subject.facts
        load = Load(
            subject.target.url,
            facts.name,
            facts.version,
            arrivals,
            rate,
            concurrency,
            rows,
            WARM_UP_SECONDS,
            plan.seconds_at(rate) if rate else plan.seconds,
            plan.slo,
            plan.deadline,
            seed=self._repeat,
        )
        self._on_step(f"{self._name}: {load}")
        run = self._measured(kind, load, subject, record)
        if kind == "single" and not run.sample.outcomes["OK"]:
            raise BenchError(f"{facts.name}: no call was answered within {plan.seconds:g} s; give a longer --duration")
        if run.sample.void:  # once more; a second void one is kept and shown as such
            run = self._measured(kind, load, subject, record)
        record.runs.append(run)
        return run

    def _measured(self, kind: str, load: Load, subject: Subject, record: Record) -> Run:
        watch = ServerWatch(subject.target, subject.facts.name, subject.facts.version)
        sample = self._generators.run(load, subject.requests(load.rows), watch)
        record.memory_bytes = max(record.memory_bytes, watch.memory_bytes)
        return Run(kind, sample, watch.observed(), watch.cpu_seconds)
