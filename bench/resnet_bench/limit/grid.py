"""The measurement of `limit`: each network's server under every load, raw ONNX Runtime in turn with it on the same cores."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from resnet_bench.errors import BenchError
from resnet_bench.h2load import require_h2load
from resnet_bench.limit.call import Call, make_call
from resnet_bench.limit.driving import GrpcEndpoint, p50_ms, p99_ms, run
from resnet_bench.limit.processes import Usage, cpu_between, usage_of
from resnet_bench.limit.published import Published, find
from resnet_bench.limit.results import Cell, Run, make_cell
from resnet_bench.limit.scrape import Sums, scrape, steps_between
from resnet_bench.limit.serving import Serving, serving
from resnet_bench.process_tree import PROC
from resnet_bench.raw import RawPlan, best_plan, throughput


@dataclass(frozen=True)
class Work:
    """One network in one precision (auto: as the server chooses), and the loads it is to bear as (in flight, rows).

    `least` is the share of raw that is to be reached, if one is set; `options` are further ones for the server.
    """

    repository: Path
    model: str
    precision: str
    loads: tuple[tuple[int, int], ...]
    least: float | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Budget:
    """Repeats, seconds of each measurement, and cores."""

    repeats: int
    seconds: float
    cores: int


Key = tuple[str, str, tuple[int, int], str, float | None]
"""Model, precision, load, raw plan and what is to be reached: one cell."""


@dataclass(frozen=True)
class _Subject:
    work: Work
    server: Serving
    published: Published
    raw_plan: RawPlan
    calls: dict[int, Call]


class Grid:
    """Measures all `works`; what is done so far is in `cells()`, so that an interrupted run loses nothing."""

    def __init__(self, works: tuple[Work, ...], budget: Budget) -> None:
        require_h2load()
        for work in works:
            find(work.repository, work.model, "fp32" if work.precision == "auto" else work.precision)
        self._works = works
        self._budget = budget
        self._runs: dict[Key, list[Run]] = {}
        self.problems: list[str] = []

    @property
    def steps(self) -> int:
        """How many steps `measure` reports."""
        return sum(1 + self._budget.repeats * (len(work.loads) + len(_by_rows(work.loads))) for work in self._works)

    def measure(self, on_step: Callable[[str], None]) -> None:
        """Measure everything, telling `on_step` what comes next; what is void becomes a problem, not an end."""
        for work in self._works:
            on_step(f"{work.model}: server, best raw plan")
            try:
                self._measure_work(work, on_step)
            except BenchError as error:
                self.problems.append(f"{work.model}: {error}")

    def cells(self) -> tuple[Cell, ...]:
        """All loads of which at least one repeat was measured."""
        return tuple(make_cell(*key, runs) for key, runs in self._runs.items())

    def _measure_work(self, work: Work, on_step: Callable[[str], None]) -> None:
        rows_at_once = max(in_flight * rows for in_flight, rows in work.loads)
        with serving(work.repository, work.model, work.precision, rows_at_once, work.options) as server:
            subject = self._subject(work, server)
            for repeat in range(self._budget.repeats):
                for rows, in_flights in _by_rows(work.loads).items():
                    on_step(f"{work.model} {repeat + 1}/{self._budget.repeats}: raw ONNX Runtime")
                    raw = self._raw(subject)
                    for in_flight in in_flights:
                        on_step(f"{work.model} {repeat + 1}/{self._budget.repeats}: {in_flight} in flight, {rows} rows")
                        self._measure_load(subject, (in_flight, rows), raw)

    def _subject(self, work: Work, server: Serving) -> _Subject:
        published = find(work.repository, work.model, server.precision)
        plan = best_plan(published.path, server.provider, published.material, self._budget.cores)
        return _Subject(work, server, published, plan, {rows: make_call(published, rows) for rows in _by_rows(work.loads)})

    def _raw(self, subject: _Subject) -> float:
        published = subject.published
        return throughput(published.path, subject.server.provider, subject.raw_plan, published.material, self._budget.seconds)

    def _measure_load(self, subject: _Subject, load: tuple[int, int], raw: float) -> None:
        server, (in_flight, rows) = subject.server, load
        looks: list[tuple[dict[int, Usage], Sums]] = []

        def look() -> None:
            looks.append((usage_of(server.pid), scrape(server.metrics_url, subject.published.name)))

        try:
            sample = run(GrpcEndpoint("ours", server.url), subject.calls[rows], in_flight, self._budget.seconds, look)
            (usage_before, sums_before), (usage_after, sums_after) = looks
            check_answers(sample.calls, sums_before, sums_after)
        except BenchError as error:
            self.problems.append(str(error))
            return
        cpu = named(cpu_between(usage_before, usage_after), server.pid) | {"generator": sample.cpu_seconds}
        per_call = {name: 1e6 * seconds / sample.calls for name, seconds in cpu.items()}
        times = (p50_ms(sample, in_flight), p99_ms(sample, in_flight), sample.mean_ms)
        result = Run(sample.rate * rows, raw, *times, per_call, steps_between(sums_before, sums_after, rows))
        key = (subject.published.name, server.precision, load, str(subject.raw_plan), subject.work.least)
        self._runs.setdefault(key, []).append(result)


def check_answers(calls: int, before: Sums, after: Sums) -> None:
    """Raise BenchError where the server refused a call, or answered fewer with OK than h2load counted."""
    refused, answered = after["refused"] - before["refused"], after["ok"] - before["ok"]
    if answered < calls:
        raise BenchError(f"void: h2load counted {calls:,} answers, the server {answered:,.0f} with OK and {refused:,.0f} without")


def named(cpu: dict[int, float], root: int) -> dict[str, float]:
    """CPU seconds by what each process is."""
    names = kinds_of(cpu, root)
    return {names[pid]: seconds for pid, seconds in cpu.items()}


def kinds_of(pids: Iterable[int], root: int) -> dict[int, str]:
    """`front end` for the server itself; its children by what they run and their pid: further front ends, engines, or else."""
    return {pid: "front end" if pid == root else f"{_kind(_command(pid))} {pid}" for pid in pids}


def _kind(command: str) -> str:
    if "resnet_server.engines" in command:
        return "engine"
    return "front end" if "resnet_server" in command else "child"


def _command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def _by_rows(loads: Iterable[tuple[int, int]]) -> dict[int, list[int]]:
    grouped: dict[int, list[int]] = {}
    for in_flight, rows in loads:
        grouped.setdefault(rows, []).append(in_flight)
    return grouped
