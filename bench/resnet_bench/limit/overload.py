"""Overload: an open loop far above the capacity, each call with a deadline; what is still answered in time, and how late the rest."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from resnet_bench.errors import BenchError
from resnet_bench.h2load import require_h2load
from resnet_bench.limit.call import Call, make_call
from resnet_bench.limit.driving import GrpcEndpoint, run
from resnet_bench.limit.published import Published, find
from resnet_bench.limit.results import spread_of_known
from resnet_bench.limit.serving import Serving, serving
from resnet_bench.limit.table import markdown, shown
from resnet_bench.load.generators import Generators
from resnet_bench.load.request import Requests
from resnet_bench.load.sample import OK, Sample
from resnet_bench.load.spec import Load
from resnet_bench.schema import Machine, Spread, this_machine

WARM_UP_SECONDS = 1.0
LEAST_GOODPUT, MOST_LATE_MS = 0.9, 5.0  # the project's targets


@dataclass(frozen=True)
class Overload:
    """Send `factor` times the capacity, measured right before with `in_flight` open calls, with `deadline` seconds for each."""

    repository: Path
    model: str
    precision: str
    rows: int
    in_flight: int
    factor: float
    deadline: float
    seconds: float
    repeats: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One repeat. Images a second; `late_ms` is the 99th percentile of answer minus deadline, over all answers that were OK.

    `refused` is the share of calls that were not computed; `generator_cpu` in cores, which the server did not have.
    """

    capacity: float
    offered: float
    goodput: float
    late_ms: float
    refused: float
    outcomes: dict[str, int]
    generator_cpu: float


@dataclass(frozen=True)
class OverloadReport:
    """All repeats that hold; `of_capacity` is goodput over capacity."""

    command: str
    machine: Machine
    load: dict[str, object]
    precision: str
    runs: tuple[Run, ...]
    of_capacity: Spread | None
    late_ms: Spread | None
    problems: tuple[str, ...]
    complete: bool
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class Overloading:
    """Runs the repeats; `report` tells what is known so far, so that an interrupted one loses nothing."""

    def __init__(self, overload: Overload) -> None:
        require_h2load()
        find(overload.repository, overload.model, "fp32" if overload.precision == "auto" else overload.precision)
        self._overload = overload
        self._precision = overload.precision
        self._runs: list[Run] = []
        self._problems: list[str] = []

    def measure(self, on_step: Callable[[str], None]) -> None:
        """Capacity and overload in turn. A void repeat becomes a problem; raises BenchError where the server does not start."""
        overload = self._overload
        at_once = overload.in_flight * overload.rows
        served = serving(overload.repository, overload.model, overload.precision, at_once, overload.options)
        with served as server, Generators() as generators:
            self._precision = server.precision
            published = find(overload.repository, overload.model, server.precision)
            plain, hurried = make_call(published, overload.rows), self._hurried(published)
            for repeat in range(overload.repeats):
                try:
                    on_step(f"{repeat + 1}/{overload.repeats}: capacity")
                    capacity = run(GrpcEndpoint("ours", server.url), plain, overload.in_flight, overload.seconds).rate
                    on_step(f"{repeat + 1}/{overload.repeats}: {overload.factor:g} times {capacity:,.0f} calls/s")
                    self._runs.append(self._flood(server, generators, hurried, capacity))
                except BenchError as error:
                    self._problems.append(str(error))

    def _hurried(self, published: Published) -> Call:
        return make_call(published, self._overload.rows, round(1e6 * self._overload.deadline))

    def _flood(self, server: Serving, generators: Generators, call: Call, capacity: float) -> Run:
        overload = self._overload
        # The deadline travels as request parameter, not as gRPC's, which would end the call here: the client must see late answers.
        load = Load(
            server.url,
            call.model,
            rate=overload.factor * capacity,
            rows=overload.rows,
            warm_up=WARM_UP_SECONDS,
            seconds=overload.seconds,
            slo=overload.deadline,
        )
        requests = Requests(f"{call.model} within {overload.deadline:g} s", (call.message,), (call.expected.argmax(1),))
        return summed_up(generators.run(load, requests), capacity)

    def report(self, cores: int, complete: bool) -> OverloadReport:
        """What is known; raise BenchError if every repeat was void."""
        runs = self._runs
        if complete and not runs:
            raise BenchError(f"overload: no repeat holds: {'; '.join(dict.fromkeys(self._problems))}")
        load = {name: value for name, value in asdict(self._overload).items() if name not in ("repository", "options")}
        ratios, late = spread_of_known([one.goodput / one.capacity for one in runs]), spread_of_known([one.late_ms for one in runs])
        command = " ".join(["resnet-bench", *sys.argv[1:]])
        problems = tuple(self._problems)
        return OverloadReport(command, this_machine(cores), load, self._precision, tuple(runs), ratios, late, problems, complete)


def summed_up(sample: Sample, capacity: float) -> Run:
    """One repeat, with `capacity` in calls a second. Raises BenchError if the generator lagged, so that the load was not what it says."""
    load = sample.load
    if sample.void:
        raise BenchError(f"void: {sample.void}")
    outcomes: Counter[str] = sample.outcomes
    if not outcomes[OK]:
        raise BenchError(f"void: {load.model}: no call was answered OK: {sample.first_error}")
    refused = 1 - outcomes[OK] / sample.sent
    goodput = load.rows * sample.on_time / load.seconds
    late = sample.latency_ms(99) - 1e3 * load.slo
    images = (load.rows * capacity, load.rows * load.rate, goodput)
    return Run(*images, late, refused, dict(outcomes), sample.generator_cpu)


IMAGES = ("capacity img/s", "offered img/s", "goodput img/s")
HEADER = ("network", *IMAGES, "goodput / capacity", "p99 after deadline ms", "refused", "generator cores")


def overload_table(report: OverloadReport) -> Table:
    """A row for each repeat."""
    table = Table(title=title(report), title_justify="left", caption=verdict(report), caption_justify="left")
    for column in HEADER:
        table.add_column(column, justify="right")
    for row in lines(report):
        table.add_row(*row)
    return table


def overload_markdown(report: OverloadReport) -> str:
    """The same as Markdown."""
    return markdown(title(report), HEADER, lines(report), verdict(report))


def title(report: OverloadReport) -> str:
    """The load in one line."""
    load = report.load
    what = f"{load['factor']:g} times capacity, {load['rows']} rows a call, {1e3 * float(str(load['deadline'])):g} ms deadline"
    return f"{report.machine.processor}, {report.machine.cores} cores; Poisson arrivals, {what}; {load['seconds']:g} s"


def verdict(report: OverloadReport) -> str:
    """The medians, against what is to be reached."""
    if report.of_capacity is None or report.late_ms is None:
        return "interrupted before a repeat was done"
    good, soon = report.of_capacity.median >= LEAST_GOODPUT, report.late_ms.median <= MOST_LATE_MS
    goodput = f"goodput / capacity {shown(report.of_capacity, 2)} (at least {LEAST_GOODPUT:g}: {'reached' if good else 'MISSED'})"
    late = f"p99 after the deadline {shown(report.late_ms, 1)} ms (at most {MOST_LATE_MS:g}: {'reached' if soon else 'MISSED'})"
    return f"{goodput}; {late}"


def lines(report: OverloadReport) -> list[tuple[str, ...]]:
    """A row for each repeat."""
    name = f"{report.load['model']} {report.precision}"
    return [
        (
            name,
            *(f"{value:,.0f}" for value in (run.capacity, run.offered, run.goodput)),
            *(f"{run.goodput / run.capacity:.2f}", f"{run.late_ms:+.1f}", f"{100 * run.refused:.1f} %", f"{run.generator_cpu:.2f}"),
        )
        for run in report.runs
    ]
