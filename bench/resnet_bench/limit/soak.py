"""Memory under a long load: resident memory of the server's processes after each tenth of the requests."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from resnet_bench.errors import BenchError
from resnet_bench.h2load import require_h2load, send
from resnet_bench.limit.call import make_call
from resnet_bench.limit.driving import GrpcEndpoint, ask, body_file
from resnet_bench.limit.grid import kinds_of
from resnet_bench.limit.processes import usage_of
from resnet_bench.limit.published import find
from resnet_bench.limit.serving import Serving, serving
from resnet_bench.limit.table import markdown
from resnet_bench.schema import Machine, this_machine

PARTS = 10
FLAT_PERCENT = 2.0
MEBIBYTE = 1 << 20
SLOWEST = 20.0  # calls a second; fewer than that, and a part is taken to hang


@dataclass(frozen=True)
class Soak:
    """What to send: calls of `rows` images of `model` from `in_flight` open ones, `requests` in all."""

    repository: Path
    model: str
    precision: str
    requests: int
    in_flight: int
    rows: int
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reading:
    """Resident bytes of each process after so many requests; `calls_per_second` of the part before it."""

    requests: int
    resident_bytes: dict[str, int]
    calls_per_second: float

    @property
    def total(self) -> int:
        """Of all processes; memory that they share counts in each."""
        return sum(self.resident_bytes.values())


@dataclass(frozen=True)
class SoakReport:
    """All readings; growth is from the first, after a tenth of the requests, to the last."""

    command: str
    machine: Machine
    model: str
    precision: str
    in_flight: int
    rows: int
    readings: tuple[Reading, ...]
    growth_percent: float | None
    complete: bool
    problems: tuple[str, ...] = ()
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


class Soaking:
    """Runs a soak; `report` tells what is known so far, so that an interrupted one loses nothing."""

    def __init__(self, soak: Soak) -> None:
        require_h2load()
        if soak.requests < PARTS * soak.in_flight:
            raise BenchError(f"requests: {soak.requests}; expected at least {PARTS * soak.in_flight} for {soak.in_flight} in flight")
        find(soak.repository, soak.model, "fp32" if soak.precision == "auto" else soak.precision)
        self._soak = soak
        self._precision = soak.precision
        self._readings: list[Reading] = []

    def measure(self, on_step: Callable[[str], None]) -> None:
        """Send everything, reading the memory after each tenth. Raises BenchError for a void run."""
        soak = self._soak
        with serving(soak.repository, soak.model, soak.precision, soak.in_flight * soak.rows, soak.options) as server:
            self._precision = server.precision
            call = make_call(find(soak.repository, soak.model, server.precision), soak.rows)
            endpoint, part = GrpcEndpoint("ours", server.url), soak.requests // PARTS
            size = ask(endpoint, call)
            with body_file(endpoint, call) as body:
                for index in range(PARTS):
                    on_step(f"{soak.model}: {index * part:,} of {soak.requests:,} requests sent")
                    summary = send(endpoint.drive(body, soak.in_flight), size, part, part / SLOWEST)
                    self._readings.append(read(server, (index + 1) * part, part / summary.seconds))
            ask(endpoint, call)

    def report(self, cores: int, complete: bool) -> SoakReport:
        """What is known; raise BenchError if that is nothing."""
        if complete and not self._readings:
            raise BenchError("soak: nothing was measured")
        soak, command = self._soak, " ".join(["resnet-bench", *sys.argv[1:]])
        growth = growth_percent([reading.total for reading in self._readings])
        load = (soak.model, self._precision, soak.in_flight, soak.rows)
        return SoakReport(command, this_machine(cores), *load, tuple(self._readings), growth, complete)


def read(server: Serving, requests: int, rate: float) -> Reading:
    """The server's memory now."""
    usage = usage_of(server.pid)
    names = kinds_of(usage, server.pid)
    return Reading(requests, {names[pid]: used.resident_bytes for pid, used in usage.items()}, rate)


def growth_percent(totals: list[int]) -> float | None:
    """From the first to the last; None where there are not two."""
    return 100 * (totals[-1] / totals[0] - 1) if len(totals) > 1 else None


def soak_table(report: SoakReport) -> Table:
    """A row for each tenth."""
    table = Table(title=title(report), title_justify="left", caption=verdict(report), caption_justify="left")
    for column in columns(report):
        table.add_column(column, justify="right")
    for row in lines(report):
        table.add_row(*row)
    return table


def soak_markdown(report: SoakReport) -> str:
    """The same as Markdown."""
    return markdown(title(report), columns(report), lines(report), verdict(report))


def title(report: SoakReport) -> str:
    """The load in one line."""
    return f"{report.model} {report.precision}, {report.in_flight} calls of {report.rows} rows in flight: resident memory"


def verdict(report: SoakReport) -> str:
    """Flat or not."""
    if report.growth_percent is None:
        return "interrupted before there was anything to compare"
    word = "flat" if report.growth_percent <= FLAT_PERCENT else f"NOT flat: expected at most {FLAT_PERCENT:g} %"
    first, last = report.readings[0].requests, report.readings[-1].requests
    return f"growth from {first:,} to {last:,} requests: {report.growth_percent:+.2f} % ({word})"


def columns(report: SoakReport) -> tuple[str, ...]:
    """Requests, calls a second, MiB of each process."""
    processes = list(report.readings[-1].resident_bytes) if report.readings else []
    return ("requests", "calls/s", "all MiB", *(f"{name} MiB" for name in processes))


def lines(report: SoakReport) -> list[tuple[str, ...]]:
    """A row for each reading."""
    processes = list(report.readings[-1].resident_bytes) if report.readings else []
    return [
        (
            *(f"{reading.requests:,}", f"{reading.calls_per_second:,.0f}", f"{reading.total / MEBIBYTE:,.1f}"),
            *(f"{reading.resident_bytes.get(name, 0) / MEBIBYTE:,.1f}" for name in processes),
        )
        for reading in report.readings
    ]
