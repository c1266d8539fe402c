"""The comparison in a terminal."""

from rich.table import Table

from resnet_bench.schema import Cell, ModelResult, Report, Spread


def depth_table(report: Report) -> Table:
    """A row for each model and load: median, and half the range between the repeats beside it."""
    machine = report.machine
    title = f"{machine.processor}, {machine.cores} cores; median of {report.repeats} x {report.seconds:g} s, range of the repeats beside it"
    table = Table(title=title, title_justify="left", caption="" if report.complete else "interrupted: not all repeats were made")
    table.add_column("model")
    for column in ("accuracy", "M mult-adds", "raw img/s", "in flight", "rows", "img/s", "of raw", "p50 ms", "p99 ms", "CPU s/1000"):
        table.add_column(column, justify="right")
    for model in report.models:
        for index, cell in enumerate(model.cells):
            table.add_row(*_model_columns(model, index == 0), *_cell_columns(cell), end_section=index == len(model.cells) - 1)
    return table


def _model_columns(model: ModelResult, first: bool) -> tuple[str, ...]:
    if not first:
        return ("", "", "", "")
    facts = model.facts
    accuracy = "untrained" if not facts.trained else "unknown" if facts.accuracy is None else f"{facts.accuracy:.2f} %"
    return (f"{facts.name} {facts.precision}", accuracy, f"{facts.multiply_adds / 1e6:,.1f}", shown(model.raw_throughput, 0))


def _cell_columns(cell: Cell) -> tuple[str, ...]:
    cpu = shown(cell.cpu_seconds, 3) if cell.cpu_seconds else "-"
    figures = (shown(cell.throughput, 0), shown(cell.efficiency, 2), shown(cell.p50_ms, 2), shown(cell.p99_ms, 2), cpu)
    return (str(cell.concurrency), str(cell.rows), *figures)


def shown(spread: Spread, digits: int) -> str:
    """The median, and the half range of the repeats."""
    return f"{spread.median:,.{digits}f} ±{(spread.high - spread.low) / 2:,.{digits}f}"
