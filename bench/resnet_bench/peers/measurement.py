"""The measurement of `peers`: every server under the same loads in turn, repeat by repeat, the order reversed each time."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from resnet_proto.preprocessing import channels_of

from resnet_bench.drivers.api import Load
from resnet_bench.drivers.generators import Generators
from resnet_bench.drivers.h2load import H2load
from resnet_bench.drivers.raw import Plan, Raw, best_plan
from resnet_bench.errors import BenchError
from resnet_bench.peers.contender import Contender, Setting
from resnet_bench.peers.lineup import OURS, RAW, Lineup, contenders
from resnet_bench.published import Published
from resnet_bench.recorder import Recorder, seeds_of
from resnet_bench.requests import Requests, Tensor
from resnet_bench.results import Cell, Facts, cells
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary
from resnet_bench.subject import Subject, facts_of
from resnet_bench.target import Target

MAX_BATCH = 64  # the server's default, and what all may batch
PROVIDER = "CPUExecutionProvider"
PROVIDERS = {"onnxruntime": PROVIDER, "openvino": "OpenVINO"}
LOAD_CALLS, LONGEST_SECONDS = 1000, 30.0


@dataclass(frozen=True)
class Work:
    """Which servers, under which closed loops (in flight, rows), at which shares of the slowest's throughput in open loop; and how."""

    names: tuple[str, ...]
    loads: tuple[tuple[int, int], ...]
    shares: tuple[float, ...]
    repeats: int
    seeds: int
    seconds: float
    slo: float
    cores: int
    environments: Path
    install: bool
    alone: bool
    runtime: str = "onnxruntime"

    def measurements(self, models: int) -> int:
        """About how many runs there are."""
        servers = len(contenders(self.names, self.cores))
        return models * self.repeats * len(self.loads) * (servers + len(self.shares) * self.seeds * len(self.names))


class Measurement:
    """Measures published networks; the recorder holds what is done, so that an interrupted run loses nothing."""

    def __init__(self, work: Work, h2load: H2load, generators: Generators, recorder: Recorder) -> None:
        self._work, self._h2load, self._generators, self._recorder = work, h2load, generators, recorder
        self.models: list[Facts] = []
        self.missing: dict[str, str] = {}
        self.problems: list[str] = []

    def run(self, published: Sequence[Published]) -> None:
        """All networks, one after the other. A run that does not hold becomes a problem, not an end."""
        for one in published:
            with tempfile.TemporaryDirectory(prefix="resnet-bench-peers-") as folder:
                self._network(one, Path(folder))

    def _network(self, published: Published, folder: Path) -> None:
        work, name = self._work, published.manifest.name
        facts = facts_of(published.manifest, published.precision, provider=PROVIDERS[work.runtime], version="")
        at_once = max(in_flight * rows for in_flight, rows in work.loads)
        setting = Setting(published, folder, work.environments, work.install, work.cores, MAX_BATCH, at_once, work.runtime)
        image = published.manifest.input
        tensor = Tensor(image.name, "UINT8", (-1, image.height, image.width, channels_of(image)))
        subject = Subject(Target("", ""), facts, published, published.material, (tensor,))
        self._recorder.say(f"{name} {published.precision}: starting {', '.join(work.names)}")
        plan = best_plan(published, PROVIDER, work.cores) if RAW in work.names else None
        self.models.append(replace(facts, raw_plan=str(plan or "")))
        requests = {rows: subject.checked_requests(rows) for rows in {rows for _, rows in work.loads}}
        with Lineup(contenders(work.names, work.cores), setting, work.alone) as lineup:
            for repeat in range(work.repeats):
                if plan is not None:
                    self._raw(subject, plan, repeat)
                for in_flight, rows in work.loads:
                    load = Load(name, "", "closed", 0.0, in_flight, rows, 0.5, work.seconds, work.slo)
                    for contender in in_turn(lineup.contenders, repeat):
                        self._closed(lineup, contender, subject, load, repeat, requests[rows])
            self._equal_rates(lineup, subject)
            self.missing.update(lineup.missing)

    def _raw(self, subject: Subject, plan: Plan, repeat: int) -> None:
        assert subject.published is not None  # noqa: S101  # `peers` measures published files
        raw = replace(subject, target=Target(RAW, "", setup=str(plan)))
        load = Load(subject.facts.name, "", "closed", 0.0, plan.sessions, plan.batch, 0.0, self._work.seconds, self._work.slo)
        self._recorder.run(Raw(subject.published, PROVIDER, plan), raw, load, "raw", repeat)

    def _closed(self, lineup: Lineup, contender: Contender, subject: Subject, load: Load, repeat: int, requests: Requests) -> None:
        def measure(target: Target) -> None:
            self._recorder.run(self._h2load, replace(subject, target=target), load, "closed", repeat, requests)

        self._guarded(lineup, contender, measure)

    def _equal_rates(self, lineup: Lineup, subject: Subject) -> None:
        """Each server in its best configuration, at shares of the throughput of the slowest that speaks gRPC."""
        work, facts = self._work, subject.facts
        for in_flight, rows in work.loads if work.shares else ():
            best = best_cells(self._recorder.samples, facts, in_flight, rows)
            rates = equal_rates(best, rows, work.shares)
            for rate, repeat in ((rate, repeat) for rate in rates for repeat in range(work.repeats)):
                seconds = max(work.seconds, min(LONGEST_SECONDS, LOAD_CALLS / rate))
                for contender in in_turn(lineup.contenders, repeat):
                    for seed in seeds_of(repeat, work.seeds):
                        load = Load(facts.name, "", "poisson", rate, 0, rows, 0.5, seconds, work.slo, None, seed)
                        self._at_rate(lineup, contender, subject, load, repeat, best)

    def _at_rate(self, lineup: Lineup, contender: Contender, subject: Subject, load: Load, repeat: int, best: dict[str, Cell]) -> None:
        def measure(target: Target) -> None:
            if target.name in best and best[target.name].first.setup == target.setup:
                self._recorder.run(self._generators, replace(subject, target=target), load, "equal", repeat)

        self._guarded(lineup, contender, measure)

    def _guarded(self, lineup: Lineup, contender: Contender, measure: Callable[[Target], None]) -> None:
        try:
            with lineup.serving(contender) as target:
                if target is not None:
                    measure(target)
        except BenchError as error:
            if contender.name == OURS and lineup.alone:
                raise
            self.problems.append(f"{contender.name} ({contender.setup}): {error}")


def in_turn(contenders: Sequence[Contender], repeat: int) -> Sequence[Contender]:
    """In order, and in reverse every other repeat."""
    return contenders[:: 1 if repeat % 2 == 0 else -1]


def best_cells(samples: Sequence[Sample], facts: Facts, in_flight: int, rows: int) -> dict[str, Cell]:
    """Of each server, the configuration with the highest median throughput under this closed loop; and raw."""
    wanted = [
        sample
        for sample in samples
        if (sample.model, sample.precision) == (facts.name, facts.precision)
        and (sample.kind == "raw" or (sample.kind, sample.concurrency, sample.rows) == ("closed", in_flight, rows))
    ]
    best: dict[str, Cell] = {}
    for cell in cells(wanted).values():
        name = cell.first.target
        if cell.runs and (name not in best or images_of(cell).median > images_of(best[name]).median):
            best[name] = cell
    return best


def equal_rates(best: dict[str, Cell], rows: int, shares: Sequence[float]) -> list[float]:
    """Calls a second at which all are compared: these shares of what the slowest that speaks gRPC answers, ours among at least two."""
    speaking = {name: images_of(cell).median for name, cell in best.items() if name not in (RAW, "litserve")}
    return [share * (min(speaking.values()) / rows) for share in shares] if OURS in speaking and len(speaking) > 1 else []


def images_of(cell: Cell) -> Summary:
    """Images a second of a cell that has runs."""
    summary = cell.summary(lambda run: run.images)
    assert summary is not None  # noqa: S101  # it has runs
    return summary
