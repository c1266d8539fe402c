"""How figures, models and loads are written: in the terminal, on the page and in Markdown."""

from collections.abc import Callable, Sequence

from rich.table import Table

from resnet_bench.results import Cell, ModelResult, Report
from resnet_bench.sample import Sample
from resnet_bench.stats import Summary

MODELS = (
    "model",
    "accuracy",
    "M mult-add",
    "raw img/s",
    "alone p50 ms",
    "alone p99 ms",
    "capacity img/s",
    "of raw",
    "p99 at half",
    "p99 at 80 %",
    "p99 at equal rate",
    "CPU s/1000",
    "MiB",
)
LOADS = ("model", "load", "target", "achieved/s", "img/s", "of raw", "goodput", "p50 ms", "p90 ms", "p99 ms", "CPU s/1000", "calls")
ASKED = ("rate", "closed", "load")


def shown(summary: Summary | None, digits: int | None = None) -> str:
    """`median [low, high] n=`, with as many digits as the size needs; `-` for nothing."""
    if summary is None:
        return "-"
    places = digits_for(summary.median) if digits is None else digits
    if summary.n == 1:
        return f"{summary.median:,.{places}f} n=1"
    return f"{summary.median:,.{places}f} [{summary.low:,.{places}f}, {summary.high:,.{places}f}] n={summary.n}"


def with_interval(summary: Summary | None, digits: int) -> str:
    """As `shown`, with the bootstrap's 95 % interval of the median where there are runs enough for one."""
    if summary is None or summary.interval is None:
        return shown(summary, digits)
    low, high = summary.interval
    return f"{shown(summary, digits)} 95 % {low:,.{digits}f} to {high:,.{digits}f}"


def digits_for(value: float) -> int:
    """Digits after the point."""
    return 0 if value >= 100 else 1 if value >= 10 else 2


def plain(value: float | None, digits: int = 0) -> str:
    """A single figure; `-` for nothing."""
    return "-" if value is None else f"{value:,.{digits}f}"


def labels(report: Report) -> list[str]:
    """What each model is called: with its precision where several are compared, and `untrained` where it is."""
    mixed = len({model.facts.precision for model in report.results}) > 1
    return [model.facts.label + (f" {model.facts.precision}" if mixed else "") for model in report.results]


def accuracy(model: ModelResult) -> str:
    """Top-1 in percent, or why there is none."""
    if not model.facts.trained:
        return "untrained"
    return "unknown" if model.facts.accuracy is None else f"{model.facts.accuracy:.2f} %"


def capacity(model: ModelResult) -> str:
    """The published capacity, with what the repeats confirmed beside it."""
    if not model.searches:
        return "-"
    if model.confirmed is None:
        return "SLO not met"
    bound = "≥ " if any(search.bound for search in model.searches) else ""
    return f"{bound}{plain(model.capacity)} (repeats {shown(model.confirmed)})"


def model_figures(model: ModelResult) -> tuple[str, ...]:
    """The figures of a model's row, as text."""

    def late(kind: str, name: str) -> str:
        cell = model.cell(kind)
        return shown(cell.latency(name) if cell else None)

    memory = model.memory_bytes
    return (
        accuracy(model),
        plain(model.facts.multiply_adds / 1e6 if model.facts.multiply_adds else None, 1),
        shown(model.raw),
        late("single", "p50"),
        late("single", "p99"),
        capacity(model),
        plain(model.efficiency, 2),
        late("half", "p99"),
        late("high", "p99"),
        late("equal", "p99"),
        shown(model.figure("high", lambda run: run.cpu_seconds), 3),
        plain(memory / 2**20 if memory else None),
    )


def model_table(report: Report) -> Table:
    """A row for each model."""
    table = Table(title=title(report), title_justify="left", caption="" if report.complete else "incomplete: not all repeats were made")
    for index, name in enumerate(MODELS):
        table.add_column(name, justify="right" if index else "left")
    for label, model in zip(labels(report), report.results, strict=True):
        table.add_row(label, *model_figures(model))
    return table


def title(report: Report) -> str:
    """Machine and method in one line."""
    machine, settings = report.machine, report.settings
    what = f"SLO {1e3 * settings.slo:g} ms; {settings.rows} images a call; runs of {settings.seconds:g} s"
    return f"{machine.processor}, {machine.cores} cores; {machine.revision}; {what}; median [low, high] n=runs that count"


def load_table(report: Report) -> Table:
    """A row for each load that was asked for by name."""
    table = Table()
    for index, name in enumerate(LOADS):
        table.add_column(name, justify="right" if index > 2 else "left")
    for label, model in zip(labels(report), report.results, strict=True):
        for cell in model.cells:
            if cell.first.kind in ASKED:
                table.add_row(label, cell.first.load, cell.first.target, *load_figures(cell, model.raw))
    return table


def load_figures(cell: Cell, raw: Summary | None) -> tuple[str, ...]:
    """The figures of one load, as text."""

    def of_raw(run: Sample) -> float | None:
        return run.images / raw.median if raw else None

    return (
        shown(cell.summary(lambda run: run.achieved_rate)),
        shown(cell.summary(lambda run: run.images)),
        shown(cell.summary(of_raw), 2),
        shown(cell.summary(lambda run: 100 * run.goodput), 1),
        *(shown(cell.latency(name)) for name in ("p50", "p90", "p99")),
        shown(cell.summary(lambda run: run.cpu_seconds), 3),
        f"{sum(run.calls for run in cell.runs):,}",
    )


def notes(report: Report) -> list[str]:
    """What a reader must know before trusting the figures; one sentence each."""
    found = [] if report.complete else ["Incomplete: it ended before all repeats were made."]
    if report.settings.allow_disturbed:
        found.append("Disturbed runs count (--allow-disturbed): these figures are not for publication.")
    for label, model in zip(labels(report), report.results, strict=True):
        missing = [search for search in model.searches if search.confirmed is None]
        if missing:
            found.append(f"{label}: {len(missing)} of {len(model.searches)} repeats found no capacity: {missing[0].reason}.")
        if any(search.bound for search in model.searches):
            found.append(f"{label}: the load generator, not the server, ended a search; the server may do more.")
        found += [f"{label}, {cell.first.load}: no run counts: {cell.voids[-1]}." for cell in model.cells if not cell.runs]
    voids = sum(bool(sample.void) for sample in report.samples)
    return [*found, *([f"{voids} of {len(report.samples)} runs are void and in no figure; results.json says why."] if voids else [])]


def markdown(heading: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    """A paragraph, a table and a note."""

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cells)} |"

    lines = [heading, "", line(header), line(("---",) * len(header)), *map(line, rows)]
    return "\n".join([*lines, *(["", note] if note else []), ""])


def text_table(
    heading: str, header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "", left: Callable[[str], bool] = str.isalpha
) -> Table:
    """The same for a terminal; columns whose name `left` accepts are text."""
    table = Table(title=heading, title_justify="left", caption=note, caption_justify="left")
    for name in header:
        table.add_column(name, justify="left" if left(name) else "right")
    for row in rows:
        table.add_row(*row)
    return table
