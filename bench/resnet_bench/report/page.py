"""report.html: one self-contained page, readable on paper, on a telephone, light and dark."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes

from resnet_bench.report import plots
from resnet_bench.report.canvas import STYLE, svg_of, variables
from resnet_bench.report.findings import findings
from resnet_bench.report.plots import Shown, shown_models
from resnet_bench.report.tables import MODELS, labels, model_figures, notes
from resnet_bench.results import Report

STYLESHEET = Path(__file__).with_name("page.css")


@dataclass(frozen=True)
class Plot:
    """A plot, how to read it, and what to say where it cannot be drawn."""

    identity: str
    title: str
    draw: Callable[[Report, Sequence[Shown]], Axes | None]
    text: str
    absent: str


PLOTS = (
    Plot(
        "accuracy-latency",
        "Accuracy against p99",
        plots.accuracy_against_latency,
        "Up is more accurate, left is faster. Every model is measured at the same rate. Bars are the range of the repeats. A hollow mark "
        "is beaten: another model is at least as accurate, and its capacity is higher beyond the noise. Accuracy is the trained network's; "
        "the certificate says what a precision changes.",
        "No trained network with a known accuracy and a latency under load.",
    ),
    Plot(
        "accuracy-cost",
        "Accuracy against cost",
        plots.accuracy_against_cost,
        "As before, with the server's CPU time, engines included, instead of latency: what a thousand images cost at 80 % of the capacity.",
        "No trained network with a known accuracy and CPU time; CPU time is known only of servers that the benchmark starts.",
    ),
    Plot(
        "latency-depth",
        "Latency by depth",
        plots.latency_by_depth,
        "Each line goes from p50 (circle) over p90 (diamond) to p99 (square); the scale is logarithmic. Hollow: one call after the other. "
        "Filled: at half and 80 % of the published capacity. The gaps show what sharing the machine costs; the dotted line is the SLO.",
        "Nothing was measured.",
    ),
    Plot(
        "throughput-latency",
        "Throughput against latency",
        plots.throughput_against_latency,
        "Each mark is one run of an open loop: so many images a second arrive, whether or not the server keeps up. Filled marks meet the "
        "SLO, hollow ones miss it. Where a line turns up, the queue begins to grow.",
        "Only closed loops were measured.",
    ),
    Plot(
        "efficiency",
        "Efficiency by depth",
        plots.efficiency_by_depth,
        "1 is what ONNX Runtime alone does with the same file on the same cores. Saturated: as many calls as it takes. Within the SLO: "
        "the published capacity. The rest goes to gRPC, batching and the load generator, which shares the cores.",
        "Raw ONNX Runtime was not measured: the model files are not at hand.",
    ),
    Plot(
        "time-split",
        "Where the time goes",
        plots.time_split,
        "A call's mean time under high load. Queue: waiting for a free engine. Service: in the server from the batch's start to the "
        "answer. Outside: gRPC on both sides, the network and the generator. A long queue means too few engines; much time outside means "
        "that calls are too small.",
        "The server's metrics were not read; --metrics-url says where they are.",
    ),
    Plot(
        "batch-sizes",
        "Batch sizes",
        plots.batch_sizes,
        "How many rows the batches had under high load. Batches form only because an engine is busy: many single rows mean that there was "
        "room.",
        "The server's metrics were not read; --metrics-url says where they are.",
    ),
)


def save_page(report: Report, path: Path) -> Path:
    """Write the page."""
    path.write_text(page(report), encoding="utf-8")
    return path


def page(report: Report) -> str:
    """The page as HTML."""
    models = shown_models(report)
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the stubs list every key as a literal
        drawn = "\n".join(card(plot, report, models) for plot in PLOTS)
    found = "".join(f"<li>{escape(text)}</li>" for text in findings(report))
    warnings = "".join(f'<p class="warning">{escape(text)}</p>' for text in notes(report))
    light, dark = (variables(len(models), dark=dark) for dark in (False, True))
    colours = f":root {{ {light} }} @media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}"
    rows = [(label, *model_figures(model)) for label, model in zip(labels(report), report.results, strict=True)]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Depth comparison</title>
<style>{colours}{STYLESHEET.read_text(encoding="utf-8")}</style>
</head>
<body>
<h1>Depth comparison</h1>
<p class="subtitle">{escape(subtitle(report))}</p>
{warnings}
<ul class="findings">{found}</ul>
<div class="plots">
{drawn}
</div>
<h2>Figures</h2>
<p>Medians with the range and number of the runs. Capacity: the lowest that a repeat confirmed, at which 99 % of the calls are
answered within {1e3 * report.settings.slo:g} ms. Latency counts from the moment a call was meant to be sent.</p>
{table(MODELS, rows)}
<h2>What was served</h2>
{table(("model", "precision", "provider", "plan", "certificate", "agreement", "raw plan"), served(report))}
<h2>Machine</h2>
{table(("", ""), machine(report))}
</body>
</html>
"""


def subtitle(report: Report) -> str:
    """Where and when."""
    where = f"{report.machine.processor}, {report.machine.cores} cores"
    return f"{where} · {report.created_at[:10]} · {report.machine.revision} · {len(report.results)} models"


def card(plot: Plot, report: Report, models: Sequence[Shown]) -> str:
    """A plot with its text."""
    axes = plot.draw(report, models)
    absent = f'<p class="absent">{escape(plot.absent)}</p>'
    shown = absent if axes is None else f"{svg_of(axes, plot.title)}<p>{escape(plot.text)}</p>"
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
    for label, model in zip(labels(report), report.results, strict=True):
        facts = model.facts
        agreement = "-" if facts.agreement is None else f"{100 * facts.agreement:.2f} %"
        texts = (facts.precision, facts.provider, facts.plan, facts.certificate_id[:16], agreement, facts.raw_plan)
        rows.append((label, *(text or "-" for text in texts)))
    return rows


def machine(report: Report) -> list[tuple[str, str]]:
    """The machine, the versions and how it was measured."""
    where, settings = report.machine, report.settings
    lag = max((sample.lag_p99_ms for sample in report.samples), default=0.0)
    cpu = max((sample.generator_cpu for sample in report.samples), default=0.0)
    limits = ", ".join(f"{name} {limit}" for name, limit in where.cgroup.items())
    return [
        ("processor", f"{where.processor}, {where.cores} cores, {where.system}, kernel {where.kernel}; control group: {limits}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in {"Python": where.python, **where.versions}.items())),
        ("revision", where.revision),
        ("generator", f"{settings.generators} process(es) on the same machine; at most {cpu:.2f} cores, {lag:.2g} ms late at p99"),
        ("measured", f"{report.created_at}, {settings.repeats} repeats of {settings.seconds:g} s, interleaved over the models"),
        ("command", report.arguments),
    ]
