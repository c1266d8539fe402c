"""`limit` in a terminal and as Markdown: a row for each network and load."""

from rich.table import Table

from resnet_bench.limit.results import Cell, LimitReport
from resnet_bench.schema import Spread

COLUMNS = ("in flight", "rows", "img/s", "raw img/s", "of raw", "to reach", "p50 ms", "p99 ms", "batch")
WHERE = ("queue ms", "compute ms", "rest ms", "outside ms")
CPU = ("front end µs", "engines µs", "generator µs")


def limit_table(report: LimitReport) -> Table:
    """Median, and half the range between the repeats beside it."""
    table = Table(title=title(report), title_justify="left", caption=caption(report))
    table.add_column("network")
    for column in (*COLUMNS, *WHERE, *CPU):
        table.add_column(column, justify="right")
    for index, cell in enumerate(report.cells):
        last = index + 1 == len(report.cells) or report.cells[index + 1].model != cell.model
        table.add_row(f"{cell.model} {cell.precision}", *figures(cell), end_section=last)
    return table


def limit_markdown(report: LimitReport) -> str:
    """The same as a Markdown table."""
    header = ("network", "precision", *COLUMNS, *WHERE, *CPU)
    rows = [(cell.model, cell.precision, *figures(cell)) for cell in report.cells]
    return markdown(title(report), header, rows, caption(report))


def title(report: LimitReport) -> str:
    """Machine and method in one line."""
    machine = report.machine
    where = f"{machine.processor}, {machine.cores} cores; h2load, closed loop"
    return f"{where}; median of {report.repeats} x {report.seconds:g} s ± half the range"


def caption(report: LimitReport) -> str:
    """What is not as it should be."""
    return "" if report.complete else "interrupted: not all repeats were made"


def figures(cell: Cell) -> tuple[str, ...]:
    """The columns of one cell."""
    engines = [value for name, value in cell.cpu_us.items() if name.startswith("engine")]
    front_ends = sum(value for name, value in cell.cpu_us.items() if name.startswith("front end"))
    outside = max(0.0, cell.client_ms - cell.queue_ms - cell.compute_ms - cell.rest_ms)
    return (
        str(cell.in_flight),
        str(cell.rows),
        *(shown(cell.served, 0), shown(cell.raw, 0), shown(cell.of_raw, 2), aim(cell), shown(cell.p50_ms, 2), shown(cell.p99_ms, 2)),
        f"{cell.batch_rows:.1f}",
        *(f"{value:.2f}" for value in (cell.queue_ms, cell.compute_ms, cell.rest_ms, outside)),
        f"{front_ends:,.0f}",
        " + ".join(f"{value:,.0f}" for value in engines if value >= 1) or "-",
        f"{cell.cpu_us['generator']:,.0f}",
    )


def aim(cell: Cell) -> str:
    """What was to be reached, and whether it was."""
    return "" if cell.least is None else f"{cell.least:g} {'reached' if cell.reached else 'MISSED'}"


def shown(spread: Spread | None, digits: int) -> str:
    """The median, and the half range of the repeats; a dash where it is not known."""
    return "-" if spread is None else f"{spread.median:,.{digits}f} ±{(spread.high - spread.low) / 2:,.{digits}f}"


def markdown(heading: str, header: tuple[str, ...], rows: list[tuple[str, ...]], note: str) -> str:
    """A paragraph, a table and a note."""
    lines = [heading, "", _row(header), _row(("---",) * len(header)), *(_row(row) for row in rows)]
    return "\n".join([*lines, *(["", note] if note else []), ""])


def _row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"
