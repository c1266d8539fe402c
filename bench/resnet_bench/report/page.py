"""report.html: one self-contained page, readable on paper, on a telephone, light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from resnet_bench.report import bars, latencies, tradeoffs, wording
from resnet_bench.report.canvas import STYLE, svg_of
from resnet_bench.report.palette import variables
from resnet_bench.report.style import STYLESHEET
from resnet_bench.report.summary import findings
from resnet_bench.report.table import MODELS, model_figures
from resnet_bench.report.view import View
from resnet_bench.schema import Report


@dataclass(frozen=True)
class Plot:
    """A plot, how to read it, and what to say where it cannot be drawn."""

    identity: str
    title: str
    draw: Callable[[View], Axes | None]
    text: str
    absent: str


PLOTS = (
    Plot(
        "accuracy-latency",
        "Accuracy against p99",
        tradeoffs.accuracy_against_latency,
        "Up is more accurate, left is faster. Models on the dashed line (filled) are worth choosing: to each other one, a model on the "
        "line is at least as accurate and as fast. Bars are the range of the repeats. Latency is {calm}. Accuracy is the trained "
        "network's; the certificate says what a precision changes.",
        "No trained network with a known accuracy and a latency under load.",
    ),
    Plot(
        "accuracy-cost",
        "Accuracy against cost",
        tradeoffs.accuracy_against_cost,
        "As before, with the server's CPU time, engines included, instead of latency: what a thousand images cost {busy}.",
        "No trained network with a known accuracy and CPU time; CPU time is known only of servers that the benchmark starts.",
    ),
    Plot(
        "latency-depth",
        "Latency by depth",
        latencies.latency_by_depth,
        "Each line goes from p50 (circle) over p90 (diamond) to p99 (square); the scale is logarithmic. Hollow: one call after the other, "
        "nothing else going on. Filled: under load (percent of capacity). The gaps between are what sharing the machine costs; the dotted "
        "line is the SLO.",
        "Nothing was measured.",
    ),
    Plot(
        "throughput-latency",
        "Throughput against latency",
        latencies.throughput_against_latency,
        "Each mark is one run of an open loop: so many images a second arrive, whether or not the server keeps up. Filled marks meet the "
        "SLO, hollow ones miss it; the last filled mark of a line is the capacity. Where a line turns up, the queue begins to grow.",
        "Only closed loops were measured.",
    ),
    Plot(
        "efficiency",
        "Efficiency by depth",
        bars.efficiency_by_depth,
        "1 is what ONNX Runtime alone does with the same file on the same cores. Saturated: as many calls as it takes. Within the SLO: "
        "the capacity. What is missing went to gRPC, batching and the load generator, which shares the cores; the deeper the network, the "
        "less they weigh. The black line is the range of the repeats.",
        "Raw ONNX Runtime was not measured: the model files are not at hand.",
    ),
    Plot(
        "time-split",
        "Where the time goes",
        bars.time_split,
        "A call's mean time {busy}. Queue: waiting for a free engine. Compute: from the batch's start to the answer. Wire: gRPC on both "
        "sides, the network and the generator. A long queue means too few engines; a long wire means that calls are too small.",
        "The server's metrics were not read; --metrics-url says where they are.",
    ),
    Plot(
        "batch-sizes",
        "Batch sizes",
        bars.batch_sizes,
        "How many rows the batches had {busy}. Batches form only because an engine is busy: many single rows mean that there was room.",
        "The server's metrics were not read; --metrics-url says where they are.",
    ),
)


def save_page(report: Report, path: Path) -> Path:
    """Write the page."""
    path.write_text(page(report), encoding="utf-8")
    return path


def page(report: Report) -> str:
    """The page as HTML."""
    view = View.of(report)
    count = len(report.models)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the stubs list every key as a literal
        plots = "\n".join(card(plot, view) for plot in PLOTS)
    found = "".join(f"<li>{escape(text)}</li>" for text in findings(report))
    warnings = "".join(f'<p class="warning">{escape(text)}</p>' for text in wording.notes(report))
    colours = (
        f":root {{ {variables(count, dark=False)} }} @media (prefers-color-scheme: dark) {{ :root {{ {variables(count, dark=True)} }} }}"
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Depth comparison</title>
<style>{colours}{STYLESHEET}</style>
</head>
<body>
<h1>Depth comparison</h1>
<p class="subtitle">{escape(subtitle(report))}</p>
{warnings}
<ul class="findings">{found}</ul>
<div class="plots">
{plots}
</div>
<h2>Figures</h2>
<p>Medians of {report.repeats} repeats, with half their range. Capacity: the highest rate with p99 within {1e3 * report.slo:g} ms and
99 % of the calls answered within it. Latency counts from the moment a call was meant to be sent.</p>
{table(MODELS, [(label, *model_figures(model)) for label, model in zip(wording.labels(report), report.models, strict=True)])}
<h2>What was served</h2>
{table(("model", "precision", "provider", "plan", "certificate", "agreement", "raw plan"), served(report))}
<h2>Machine</h2>
{table(("", ""), machine(report))}
</body>
</html>
"""


def subtitle(report: Report) -> str:
    """Where and when."""
    return f"{report.machine.processor}, {report.machine.cores} cores · {report.created_at[:10]} · {len(report.models)} models"


def card(plot: Plot, view: View) -> str:
    """A plot with its text."""
    axes = plot.draw(view)
    if axes is None:
        shown = f'<p class="absent">{escape(plot.absent)}</p>'
    else:
        shown = f"{svg_of(axes, plot.title)}<p>{escape(plot.text.format(busy=view.busy_name, calm=view.calm_name))}</p>"
    return f'<section id="{plot.identity}"><h2>{plot.title}</h2>{shown}</section>'


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow."""
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    header = f"<thead><tr>{cells}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{header}<tbody>{body}</tbody></table></div>'


def served(report: Report) -> list[tuple[str, ...]]:
    """How each model was computed."""
    rows: list[tuple[str, ...]] = []
    for label, model in zip(wording.labels(report), report.models, strict=True):
        facts = model.facts
        agreement = "-" if facts.agreement is None else f"{100 * facts.agreement:.2f} %"
        rows.append(
            (label, facts.precision, facts.provider, facts.plan or "-", facts.certificate_id[:16] or "-", agreement, model.raw_plan)
        )
    return rows


def machine(report: Report) -> list[tuple[str, str]]:
    """The machine, the versions and how it was measured."""
    where = report.machine
    points = [point for model in report.models for point in model.points]
    lag = max((point.lag_p99_ms.median for point in points), default=0.0)
    cpu = max((point.generator_cpu.median for point in points), default=0.0)
    return [
        ("processor", f"{where.processor}, {where.cores} cores, {where.system}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in {"Python": where.python, **where.versions}.items())),
        ("generator", f"{report.generators} process(es) on the same machine; at most {cpu:.2f} cores, {lag:.2g} ms late at p99"),
        ("measured", f"{report.created_at}, {report.repeats} repeats of {report.seconds:g} s, interleaved over the models"),
        ("command", report.command),
    ]
