"""The depth comparison. Repeats are interleaved: each goes over all models before the next begins, so that drift touches all alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from resnet_bench.capacity import FIRST_STEP, LATER_STEP, Verdict, capacity, seconds_for, verdict
from resnet_bench.drivers.api import Arrivals, Load
from resnet_bench.drivers.generators import Generators
from resnet_bench.drivers.raw import Plan as RawPlan
from resnet_bench.drivers.raw import Raw, best_plan
from resnet_bench.errors import BenchError
from resnet_bench.recorder import Recorder, seeds_of
from resnet_bench.results import Facts, Search
from resnet_bench.sample import OK, Sample
from resnet_bench.subject import Subject

HALF, HIGH = 0.5, 0.8
FIRST_SHARE = 0.8  # of saturation: where the first search begins
SATURATING_ROWS, SATURATING_SECONDS = 128, 0.5  # in flight: at most so many images, and on each core about so much computing
PROBE_CALLS, LOAD_CALLS, CONFIRM_CALLS = 300, 1000, 3000  # what a p99 and its repeats need
LONGEST_SECONDS = 30.0
CONFIRM_AT_MOST = 6  # times its least duration


@dataclass(frozen=True)
class Plan:
    """What is measured. Seconds of a run, of the confirming run, SLO and deadline; `rows` a call.

    With `rates` (calls a second) or `concurrencies` these loads are measured, each with each number of `rows`; without, the capacity
    within the SLO is searched for, and half and 80 % of the published one are measured, and one rate that all models bear.
    """

    rows: tuple[int, ...]
    repeats: int
    seeds: int
    seconds: float
    slo: float
    confirm: float
    cores: int
    rates: tuple[float, ...] = ()
    concurrencies: tuple[int, ...] = ()
    arrivals: Arrivals = "poisson"
    deadline: float | None = None
    warm_up: float = 0.5

    @property
    def searches(self) -> bool:
        """True where the capacity is searched for."""
        return not self.rates and not self.concurrencies

    def saturating(self, alone: float) -> int:
        """Calls in flight that keep every engine busy, where one call alone takes `alone` seconds."""
        rows = min(SATURATING_ROWS, self.cores * SATURATING_SECONDS / alone)
        return max(2 * self.cores, math.ceil(rows / self.rows[0]))

    def measurements(self, models: int) -> int:
        """About how many runs there are."""
        asked = (len(self.rates) * self.seeds + len(self.concurrencies)) * len(self.rows)
        return models * self.repeats * (2 + (7 + 3 * self.seeds if self.searches else asked))


class Comparison:
    """Runs a plan; the recorder and `searches` hold what is measured, so that an interrupted run loses nothing."""

    def __init__(self, plan: Plan, subjects: Sequence[Subject], generators: Generators, recorder: Recorder) -> None:
        self._plan, self._generators, self._recorder = plan, generators, recorder
        self._subjects = sorted(subjects, key=lambda subject: (subject.facts.multiply_adds or 0, subject.facts.name))
        self._raw_plans: dict[int, RawPlan] = {}
        self._in_flight: dict[int, int] = {}
        self.searches: list[Search] = []

    def run(self) -> None:
        """Measure everything. Raises BenchError where the service fails or its answers are wrong."""
        for repeat in range(self._plan.repeats):
            for index, subject in enumerate(self._subjects):
                self._raw(index, subject, repeat)
                alone = self._alone(subject, repeat)
                if self._plan.searches:
                    self._search(index, subject, repeat, alone)
                else:
                    self._asked(subject, repeat)
        if self._plan.searches:
            self._at_shares()

    @property
    def models(self) -> tuple[Facts, ...]:
        """Cheapest first, with the plan that raw ONNX Runtime ran best with."""
        plans = [str(self._raw_plans.get(index, "")) for index in range(len(self._subjects))]
        return tuple(replace(subject.facts, raw_plan=plan) for subject, plan in zip(self._subjects, plans, strict=True))

    def _raw(self, index: int, subject: Subject, repeat: int) -> None:
        published, provider = subject.published, subject.facts.provider
        if published is None or not provider.endswith("ExecutionProvider"):
            return
        if index not in self._raw_plans:
            self._recorder.say(f"{subject.facts.name}: best plan of raw ONNX Runtime")
            self._raw_plans[index] = best_plan(published, provider, self._plan.cores)
        driver = Raw(published, provider, self._raw_plans[index])
        load = self._load(subject, "closed", concurrency=driver.plan.sessions, rows=driver.plan.batch)
        alone = replace(subject, target=replace(subject.target, name="raw", pid=None, metrics_url=None, setup=str(driver.plan)))
        self._recorder.run(driver, alone, load, "raw", repeat)

    def _alone(self, subject: Subject, repeat: int) -> float:
        """The median latency of one call alone, in seconds."""
        sample = self._run(subject, "single", repeat, self._load(subject, "closed", concurrency=1))
        if not sample.outcomes.get(OK):
            seconds = self._plan.seconds
            raise BenchError(f"{subject.facts.name}: no call was answered within {seconds:g} s; give a longer --duration")
        return sample.latency_ms.get("p50", sample.latency_ms["mean"]) / 1e3

    def _asked(self, subject: Subject, repeat: int) -> None:
        plan = self._plan
        for rows in plan.rows:
            for rate in plan.rates:
                self._open(subject, "rate", repeat, rate, rows, plan.arrivals)
            for concurrency in plan.concurrencies:
                self._run(subject, "closed", repeat, self._load(subject, "closed", concurrency=concurrency, rows=rows))

    def _search(self, index: int, subject: Subject, repeat: int, alone: float) -> None:
        """Saturation, then the capacity within the SLO."""
        plan, rows, facts = self._plan, self._plan.rows[0], subject.facts
        in_flight = self._in_flight.setdefault(index, plan.saturating(alone))
        full = self._run(subject, "saturation", repeat, self._load(subject, "closed", concurrency=in_flight, rows=rows))
        if alone > plan.slo:
            reason = f"a call alone takes {1e3 * alone:.3g} ms (p50), more than the SLO of {1e3 * plan.slo:g} ms"
            self.searches.append(Search(facts.name, facts.precision, repeat, None, None, reason))
            return
        known = self._published(subject)
        first = known / rows if known else FIRST_SHARE * max(full.images / rows, 1 / alone)
        seed = iter(range(1000 * repeat, 1000 * (repeat + 1)))  # every probe its own arrivals, the same for every model

        def tried(kind: str, calls: int, least: float, most: float, rate: float) -> Verdict:
            load = self._load(subject, "poisson", rate=rate, rows=rows, seed=next(seed))
            return verdict(self._run(subject, kind, repeat, replace(load, seconds=seconds_for(rate, calls, least, most))))

        found = capacity(
            lambda rate: tried("probe", PROBE_CALLS, plan.seconds, LONGEST_SECONDS, rate),
            lambda rate: tried("confirm", CONFIRM_CALLS, plan.confirm, CONFIRM_AT_MOST * plan.confirm, rate),
            first,
            LATER_STEP if known else FIRST_STEP,
        )
        missed = f"no rate met the SLO of {1e3 * plan.slo:g} ms" if found.rate is None else "no longer run confirmed the rate found"
        short, long = (None if rate is None else rate * rows for rate in (found.rate, found.confirmed))
        bound = "generator" if found.bound_by_generator else ""
        self.searches.append(Search(facts.name, facts.precision, repeat, short, long, "" if found.confirmed else missed, bound))

    def _published(self, subject: Subject) -> float | None:
        """The lowest capacity that a repeat confirmed so far, in images a second."""
        key = (subject.facts.name, subject.facts.precision)
        return min((s.confirmed for s in self.searches if (s.model, s.precision) == key and s.confirmed), default=None)

    def _at_shares(self) -> None:
        """Half and 80 % of each model's published capacity, and 80 % of the least one for all."""
        rows = self._plan.rows[0]
        known = [(subject, rate / rows) for subject in self._subjects if (rate := self._published(subject))]
        equal = HIGH * min((rate for _, rate in known), default=0.0)
        for repeat in range(self._plan.repeats):
            for subject, rate in known:
                self._open(subject, "half", repeat, HALF * rate, rows)
                self._open(subject, "high", repeat, HIGH * rate, rows)
                if len(known) > 1:
                    self._open(subject, "equal", repeat, equal, rows)

    def _open(self, subject: Subject, kind: str, repeat: int, rate: float, rows: int, arrivals: Arrivals = "poisson") -> None:
        """One open-loop load with each of the repeat's arrival sequences."""
        for seed in seeds_of(repeat, self._plan.seeds) if arrivals == "poisson" else (0,):
            load = self._load(subject, arrivals, rate=rate, rows=rows, seed=seed)
            seconds = seconds_for(rate, LOAD_CALLS, self._plan.seconds, max(self._plan.seconds, LONGEST_SECONDS))
            self._run(subject, kind, repeat, replace(load, seconds=seconds))

    def _run(self, subject: Subject, kind: str, repeat: int, load: Load) -> Sample:
        return self._recorder.run(self._generators, subject, load, kind, repeat)

    def _load(self, subject: Subject, arrivals: Arrivals, rate: float = 0.0, concurrency: int = 0, rows: int = 1, seed: int = 0) -> Load:
        plan, facts = self._plan, subject.facts
        numbers = (rate, concurrency, rows, plan.warm_up, plan.seconds, plan.slo, plan.deadline, seed)
        return Load(facts.name, facts.version, arrivals, *numbers)
