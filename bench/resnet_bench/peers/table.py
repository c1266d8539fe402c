"""`peers` in a terminal and as Markdown: under each load ours, then every peer with ours against it."""

from rich.table import Table

from resnet_bench.limit.table import markdown, shown
from resnet_bench.peers.results import PeersReport, Row

COLUMNS = ("in flight", "rows", "server", "precision", "img/s", "p50 ms", "p99 ms", "CPU µs/call", "ours / it", "p99 ours / it", "to reach")
LEFT = ("server", "precision")


def peers_table(report: PeersReport) -> Table:
    """Median, and half the range between the repeats beside it."""
    table = Table(title=title(report), title_justify="left", caption=caption(report), caption_justify="left")
    table.add_column("network")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right")
    for index, row in enumerate(report.rows):
        last = index + 1 == len(report.rows) or load_of(report.rows[index + 1]) != load_of(row)
        table.add_row(row.model, *cells(row), end_section=last)
    return table


def peers_markdown(report: PeersReport) -> str:
    """The same as a Markdown table, with how each server was set up below it."""
    rows = [(row.model, *cells(row)) for row in report.rows]
    return markdown(title(report), ("network", *COLUMNS), rows, caption(report).replace("\n", "\n\n"))


def title(report: PeersReport) -> str:
    """Machine and method in one line."""
    machine = report.machine
    where = f"{machine.processor}, {machine.cores} cores; h2load on the same cores, closed loop"
    return f"{where}; median of {report.repeats} x {report.seconds:g} s ± half the range"


def caption(report: PeersReport) -> str:
    """How each server was set up, and what is not as it should be."""
    lines = [f"{name}: {setup}" for name, setup in report.setups.items()]
    return "\n".join([*lines, *([] if report.complete else ["interrupted: not all repeats were made"])])


def load_of(row: Row) -> tuple[str, int, int]:
    """What rows of one load share."""
    return row.model, row.in_flight, row.rows


def cells(row: Row) -> tuple[str, ...]:
    """The columns of one row but the first; the reason in place of the figures where there are none."""
    load = (str(row.in_flight), str(row.rows), row.peer, row.precision)
    if row.why:
        return (*load, row.why, "", "", "", "", "", "")
    cpu = "-" if row.cpu_us is None else f"{row.cpu_us:,.0f}"
    figures = (shown(row.served, 0), shown(row.p50_ms, 2), shown(row.p99_ms, 2), cpu)
    ratios = ("", "") if row.ratio is None else (shown(row.ratio, 2), shown(row.p99_ratio, 2))
    return (*load, *figures, *ratios, aim(row))


def aim(row: Row) -> str:
    """What was to be reached, and whether it was."""
    if row.least is None:
        return ""
    verdict = {True: "reached", False: "MISSED", None: "not measured"}[row.reached]
    return f"{row.least:g}{', p99 <= 1' if row.p99_no_worse else ''}: {verdict}"
