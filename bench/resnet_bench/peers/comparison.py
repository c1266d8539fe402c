"""The measurement of `peers`: every server under the same load in turn, repeat by repeat, the order reversed each time."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

from resnet_bench.errors import BenchError
from resnet_bench.h2load import require_h2load
from resnet_bench.limit.call import Call, make_call
from resnet_bench.limit.driving import p50_ms, p99_ms, run
from resnet_bench.limit.processes import Usage, cpu_between, usage_of
from resnet_bench.limit.published import find
from resnet_bench.peers.kinds import OURS
from resnet_bench.peers.peer import Standing
from resnet_bench.peers.process import paused
from resnet_bench.peers.results import Row, Run, figures, ratios
from resnet_bench.peers.standings import Places, Standings, standing
from resnet_bench.peers.work import Aim, Work

MAX_OTHERS_CPU = 0.05  # of the run's seconds may the servers that should be idle take


@dataclass(frozen=True)
class Budget:
    """Repeats, and seconds of each measurement."""

    repeats: int
    seconds: float


class Comparison:
    """Measures all works; `rows()` holds what is done so far, so that an interrupted run loses nothing."""

    def __init__(self, works: tuple[Work, ...], names: tuple[str, ...], places: Places, budget: Budget) -> None:
        require_h2load()
        for work in works:
            find(work.repository, work.model, work.precision)
        self._works, self._names, self._places, self._budget = works, names, places, budget
        self._runs: dict[tuple[Work, Aim, str], dict[int, Run]] = defaultdict(dict)
        self._precisions: dict[tuple[Work, str], str] = {}
        self._missing: dict[tuple[Work, str], str] = {}
        self.setups: dict[str, str] = {}
        self.problems: list[str] = []

    @property
    def steps(self) -> int:
        """How many steps `measure` reports."""
        return sum(1 + self._budget.repeats * len(work.aims) * len(self._names) for work in self._works)

    def measure(self, on_step: Callable[[str], None]) -> None:
        """Measure everything, telling `on_step` what comes next; what is void becomes a problem, not an end."""
        for work in self._works:
            on_step(f"{work.label}: start {', '.join(self._names)}")
            try:
                self._measure_work(work, on_step)
            except BenchError as error:
                self.problems.append(f"{work.label}: {error}")

    def rows(self) -> tuple[Row, ...]:
        """A row for each server and load: with figures, or with the reason why there are none."""
        return tuple(
            row for work in self._works for aim in work.aims for name in self._names if (row := self._row(work, aim, name)) is not None
        )

    def _measure_work(self, work: Work, on_step: Callable[[str], None]) -> None:
        with standing(work, self._names, self._places) as standings:
            self._note(work, standings)
            calls = self._calls(work, standings)
            for repeat in range(self._budget.repeats):
                names = [name for name in self._names if name in standings.up][:: 1 if repeat % 2 == 0 else -1]
                for aim in work.aims:
                    for name in names:
                        load = f"{aim.in_flight} in flight, {aim.rows} rows"
                        on_step(f"{work.model} {repeat + 1}/{self._budget.repeats}: {load}: {name}")
                        call = calls[standings.up[name].precision, aim.rows]
                        self._measure_load((work, aim, name), repeat, standings.up, call)

    def _note(self, work: Work, standings: Standings) -> None:
        for name, found in standings.up.items():
            self.setups[name] = found.setup
            self._precisions[work, name] = found.precision
        for name, reason in standings.missing.items():
            self._missing[work, name] = reason

    def _calls(self, work: Work, standings: Standings) -> dict[tuple[str, int], Call]:
        precisions = {found.precision for found in standings.up.values()}
        published = [find(work.repository, work.model, precision) for precision in sorted(precisions)]
        return {(one.precision, rows): make_call(one, rows) for one in published for rows in {aim.rows for aim in work.aims}}

    def _measure_load(self, key: tuple[Work, Aim, str], repeat: int, up: dict[str, Standing], call: Call) -> None:
        _, aim, name = key
        looks: list[dict[str, dict[int, Usage]]] = []

        def look() -> None:
            looks.append({other: usage_of(found.pid) for other, found in up.items()})

        try:
            with paused([found.pid for other, found in up.items() if other not in (name, OURS)]):
                sample = run(up[name].endpoint, call, aim.in_flight, self._budget.seconds, look)
            cpu = {other: sum(cpu_between(looks[0][other], looks[1][other]).values()) for other in up}
            check_idle(cpu, name, self._budget.seconds)
        except BenchError as error:
            self.problems.append(str(error))
            return
        times = (p50_ms(sample, aim.in_flight), p99_ms(sample, aim.in_flight))
        self._runs[key][repeat] = Run(sample.rate * aim.rows, *times, 1e6 * cpu[name] / sample.calls)

    def _row(self, work: Work, aim: Aim, name: str) -> Row | None:
        runs = self._runs.get((work, aim, name))
        base = {"model": work.model, "in_flight": aim.in_flight, "rows": aim.rows, "peer": name}
        if not runs:
            why = self._missing.get((work, name))
            return None if why is None else Row(**base, precision=work.precision, why=why)  # type: ignore[arg-type]  # as named
        fields = base | {"precision": self._precisions[work, name]} | figures(list(runs.values()))
        if name != OURS:
            throughput, late = ratios(self._runs.get((work, aim, OURS), {}), runs)
            fields |= {"ratio": throughput, "p99_ratio": late, "least": aim.least, "p99_no_worse": aim.p99_no_worse}
        return Row(**fields)  # type: ignore[arg-type]  # as named


def check_idle(cpu: dict[str, float], measured: str, seconds: float) -> None:
    """Raise BenchError where another server than the one `measured` took CPU time meanwhile."""
    for name, used in cpu.items():
        if name != measured and used > MAX_OTHERS_CPU * seconds:
            raise BenchError(f"void: {measured}: {name} was not idle: it took {used:.2f} s of CPU in {seconds:g} s")
