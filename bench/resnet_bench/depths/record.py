"""What was measured of one model so far, and its summary."""

from collections import Counter
from dataclasses import dataclass, field

from resnet_bench.depths.capacity import Verdict
from resnet_bench.depths.subject import Subject
from resnet_bench.load.sample import Sample
from resnet_bench.raw import RawPlan
from resnet_bench.schema import Capacity, CurvePoint, ModelResult, Point, Split, Spread
from resnet_bench.scrape import Observed

GOODPUT = 0.99


@dataclass(frozen=True)
class Run:
    """One run: what the generator saw, what the server counted, and the server's CPU seconds in the counted time."""

    kind: str
    sample: Sample
    observed: Observed | None = None
    cpu_seconds: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the SLO was met. A void run may still say that it was missed.

        A generator that lags makes the load easier: a server that misses the SLO even from the moment calls really left would miss it
        with all calls in time, too.
        """
        if self.met:
            return "met"
        return "missed" if not self.sample.void or self.sample.leniently < GOODPUT else "void"

    @property
    def met(self) -> bool:
        """True if p99 is within the SLO and at least 99 % of all calls were answered OK within it."""
        sample = self.sample
        return not sample.void and sample.goodput >= GOODPUT and sample.latency_ms(99) <= 1e3 * sample.load.slo

    @property
    def cpu_per_1000(self) -> float | None:
        """The server's CPU seconds per 1,000 images."""
        rows = self.sample.throughput * self.sample.load.seconds
        return None if self.cpu_seconds is None or not rows else 1000 * self.cpu_seconds / rows

    @property
    def split_ms(self) -> tuple[float, float, float] | None:
        """Mean milliseconds in the queue, computing and on the wire; None where the server's metrics are not known."""
        seen = self.observed
        if seen is None or not seen.requests:
            return None
        return seen.queue_ms, max(0.0, seen.server_ms - seen.queue_ms), max(0.0, self.sample.mean_ms - seen.server_ms)


@dataclass
class Record:
    """Everything measured of one subject, run by run; capacities in calls of `rows` a second, one a repeat, None where none met."""

    subject: Subject
    rows: int = 1
    raw_plan: RawPlan | None = None
    raw: list[float] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    capacities: list[float | None] = field(default_factory=list)
    in_flight: int = 0
    bound_by_generator: bool = False
    why_none: str = ""
    memory_bytes: int = 0

    @property
    def first_capacity(self) -> float | None:
        """The first that was found, which the loads of 50 % and 80 % refer to."""
        return next((rate for rate in self.capacities if rate is not None), None)

    def result(self) -> ModelResult:
        """The summary."""
        raw = Spread.of(self.raw) if self.raw else None
        runs: dict[tuple[str, str, float, int, int], list[Run]] = {}
        for run in self.runs:
            if run.kind != "probe":
                load = run.sample.load
                runs.setdefault((run.kind, load.arrivals, load.rate, load.concurrency, load.rows), []).append(run)
        return ModelResult(
            facts=self.subject.facts,
            raw_throughput=raw,
            raw_plan=str(self.raw_plan) if self.raw_plan else "not measured",
            capacity=self._capacity(raw),
            points=tuple(summed_up(same, raw) for same in runs.values() if any(not run.sample.void for run in same)),
            curve=self._curve(),
            memory_bytes=self.memory_bytes or None,
            voids=tuple(f"{same[0].sample.load}: {same[-1].sample.void}" for same in runs.values() if all(run.sample.void for run in same)),
        )

    def _capacity(self, raw: Spread | None) -> Capacity | None:
        if not self.capacities:
            return None
        bound = "generator" if self.bound_by_generator else ""
        if self.first_capacity is None:
            return Capacity(None, None, self.why_none, bound)
        images = [self.rows * (rate or 0.0) for rate in self.capacities]
        return Capacity(Spread.of(images), share_of(images, raw), "", bound)

    def _curve(self) -> tuple[CurvePoint, ...]:
        points = [curve_point(run) for run in self.runs if run.sample.load.arrivals != "closed" and not run.sample.void]
        return tuple(sorted(points, key=lambda point: point.rate))


def curve_point(run: Run) -> CurvePoint:
    """An open-loop run as a point of the curve; rates in images a second."""
    sample = run.sample
    rate = sample.load.rate * sample.load.rows
    return CurvePoint(rate, sample.throughput, sample.goodput, sample.latency_ms(50), sample.latency_ms(99), run.met)


def summed_up(runs: list[Run], raw: Spread | None) -> Point:
    """The repeats of one load, of which at least one counts."""
    valid = [run for run in runs if not run.sample.void]
    samples = [run.sample for run in valid]
    load = samples[0].load

    def latency(percentile: float) -> Spread:
        return Spread.of([sample.latency_ms(percentile) for sample in samples])

    rates = [sample.throughput for sample in samples]
    return Point(
        kind=runs[0].kind,
        arrivals=load.arrivals,
        rate=load.rate,
        concurrency=load.concurrency,
        rows=load.rows,
        calls=sum(sample.sent for sample in samples),
        outcomes=dict(sum((sample.outcomes for sample in samples), Counter[str]())),
        goodput=Spread.of([sample.goodput for sample in samples]),
        throughput=Spread.of(rates),
        mean_ms=Spread.of([sample.mean_ms for sample in samples]),
        p50_ms=latency(50),
        p90_ms=latency(90),
        p99_ms=latency(99),
        p999_ms=latency(99.9),
        efficiency=share_of(rates, raw),
        cpu_seconds=Spread.of_some([run.cpu_per_1000 for run in valid]),
        split=split_of(valid),
        batch_rows=batches_of(valid),
        lag_p99_ms=Spread.of([0.0 if load.arrivals == "closed" else sample.lag_ms(99) for sample in samples]),
        generator_cpu=Spread.of([sample.generator_cpu for sample in samples]),
        repeats=len(valid),
        voids=tuple(run.sample.void for run in runs if run.sample.void),
    )


def share_of(rates: list[float], raw: Spread | None) -> Spread | None:
    """Images a second as shares of raw's median; None where raw is not known."""
    return Spread.of([rate / raw.median for rate in rates]) if raw and raw.median else None


def split_of(runs: list[Run]) -> Split | None:
    """Where the time went, over the repeats that know it."""
    parts = [run.split_ms for run in runs if run.split_ms is not None]
    return Split(*(Spread.of(values) for values in zip(*parts, strict=True))) if parts else None


def batches_of(runs: list[Run]) -> dict[str, int]:
    """Batches by the upper end of their bucket of rows, over all repeats."""
    counts = Counter[float]()
    for run in runs:
        if run.observed is not None:
            counts.update(run.observed.batch_rows)  # unlike a sum, it keeps what is zero
    return {"more" if bucket == float("inf") else f"{bucket:g}": int(count) for bucket, count in sorted(counts.items())}
