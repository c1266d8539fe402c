"""Runs loads one after another, watched, and keeps every sample: what every command measures with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from resnet_bench.drivers.api import Driver, Load
from resnet_bench.machine import NO_LIMITS, Limits, MachineWatch
from resnet_bench.requests import Requests
from resnet_bench.sample import Sample
from resnet_bench.subject import Subject
from resnet_bench.target import Target, Usage


class Watch:
    """What is seen of target and machine in the counted time; the target's metrics are of the whole run, warm-up included."""

    def __init__(self, target: Target, model: str, version: str) -> None:
        self._target, self._model, self._version = target, model, version
        self._machine = MachineWatch()
        self._counts = target.counts(model, version)
        self._usage: dict[int, Usage] = {}
        self._after: dict[int, Usage] = {}
        self._seen = self._machine.end(0.0)

    def begin(self) -> None:
        """The counted time begins."""
        self._usage = self._target.usage(memory=False)
        self._machine.begin(self._target.cpu_seconds())

    def end(self) -> None:
        """It ends."""
        self._seen = self._machine.end(self._target.cpu_seconds())
        self._after = self._target.usage()

    def completed(self, sample: Sample, limits: Limits) -> Sample:
        """The sample with what was seen; void where the machine was disturbed."""
        after = self._target.counts(self._model, self._version)
        server = after.since(self._counts).times() if after is not None and self._counts is not None else None
        used = {
            usage.name: usage.cpu_seconds - (self._usage[pid].cpu_seconds if pid in self._usage else 0.0)
            for pid, usage in self._after.items()
        }
        images = (sample.watched or sample.answered) * sample.rows / 1000
        cpu = {name: seconds / images for name, seconds in used.items()} if images else {}
        if cpu:
            cpu["generator"] = sample.generator_cpu * sample.seconds / (sample.answered * sample.rows / 1000)
        memory = {usage.name: usage.pss_bytes for usage in self._after.values()}
        void = sample.void or limits.reason(self._seen, saturating=not sample.open_loop)
        return replace(sample, cpu=cpu, memory=memory, server=server, machine=self._seen, void=void)


@dataclass
class Recorder:
    """Every sample in the order in which it was taken, so that an interrupted benchmark loses nothing.

    `say` is told what comes next. Disturbed runs are void unless `allow_disturbed`; a void run is repeated once.
    """

    say: Callable[[str], None] = lambda _: None
    allow_disturbed: bool = False
    samples: list[Sample] = field(default_factory=list)

    def run(self, driver: Driver, subject: Subject, load: Load, kind: str, repeat: int, requests: Requests | None = None) -> Sample:
        """Measure one load, and once more where the first run is void; the second may be void, too.

        Raises BenchError as the driver.
        """
        facts = subject.facts
        place = f"{facts.name} {facts.precision}".strip() + f" {repeat + 1}"
        self.say(f"{place}: {subject.target.name}: {kind}: {load}")
        sent = requests or subject.requests(load.rows)
        sample = self._once(driver, subject, load, sent, kind, repeat)
        return self._once(driver, subject, load, sent, kind, repeat) if sample.void else sample

    def _once(self, driver: Driver, subject: Subject, load: Load, requests: Requests, kind: str, repeat: int) -> Sample:
        target, facts = subject.target, subject.facts
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        watch = Watch(target, load.model, load.version)
        sample = driver.run(target, requests, load, watch)
        placed = replace(
            sample,
            target=target.name,
            setup=target.setup,
            precision=facts.precision,
            kind=kind,
            repeat=repeat,
            order=len(self.samples),
            started_at=started_at,
        )
        self.samples.append(watch.completed(placed, NO_LIMITS if self.allow_disturbed else Limits()))
        return self.samples[-1]

    @property
    def problems(self) -> tuple[str, ...]:
        """Runs that do not count, one line each."""
        return tuple(
            dict.fromkeys(f"{sample.model} {sample.target}, {sample.load}: void: {sample.void}" for sample in self.samples if sample.void)
        )


def seeds_of(repeat: int, seeds: int) -> Sequence[int]:
    """The arrival sequences of a repeat: no two repeats share one, and every model meets the same."""
    return range(repeat * seeds, (repeat + 1) * seeds)
