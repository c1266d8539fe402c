"""One request's trace as a picture: `python -m deploy.trace SPANS docs/images/trace.svg`, from what `--traces SPANS` wrote.

The request is the one whose batch has most calls linked to it; times are drawn to scale.
"""

import html
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

Span = dict[str, Any]
ORDER = ("queue", "batch", "compute", "answer")
WIDTH, LEFT, RIGHT, ROW, TOP = 760, 120, 90, 34, 58
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f } .small { font-size: 11px; fill: #57606a }
.call { fill: #8c959f } .queue { fill: #bf8700 } .batch { fill: #8250df } .compute { fill: #0969da } .answer { fill: #1a7f37 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9198a1 } }
"""


def main(source: str, target: str) -> None:
    """Draw."""
    spans = [json.loads(line) for line in Path(source).read_text(encoding="utf-8").splitlines()]
    trace = chosen(spans)
    Path(target).write_text(drawn(trace), encoding="utf-8")
    print(f"{target}: {len(trace)} spans of trace {trace[0]['context']['trace_id']}")


def chosen(spans: Sequence[Span]) -> list[Span]:
    """The spans of one trace: the call's, then those in it."""
    batch = max((span for span in spans if span["name"] == "batch"), key=lambda span: len(span["links"]))
    trace = [span for span in spans if span["context"]["trace_id"] == batch["context"]["trace_id"]]
    (call,) = [span for span in trace if span["kind"] == "SpanKind.SERVER"]
    inside = {span["name"]: span for span in trace if span is not call}
    return [call, *(inside[name] for name in ORDER)]


def drawn(trace: Sequence[Span]) -> str:
    """The picture as SVG."""
    begin, end = moment(trace[0], "start_time"), max(moment(span, "end_time") for span in trace)
    scale = (WIDTH - LEFT - RIGHT) / (end - begin)
    attributes = trace[0]["attributes"]
    which = f"{attributes['resnet.model']} version {attributes['resnet.version']}"
    about = f"{trace[0]['name']} of {which}, request id {attributes.get('resnet.request.id', '-')}"
    parts = [
        f'<text x="12" y="24">{html.escape(about)}</text>',
        f'<text x="12" y="42" class="small">trace {trace[0]["context"]["trace_id"]}</text>',
    ]
    for row, span in enumerate(trace):
        x, y = LEFT + scale * (moment(span, "start_time") - begin), TOP + row * ROW
        seconds = moment(span, "end_time") - moment(span, "start_time")
        width = max(2.0, scale * seconds)
        kind = span["name"] if row else "call"
        parts += [
            f'<text x="{12 + 12 * bool(row)}" y="{y + 16}">{html.escape(span["name"])}</text>',
            f'<rect class="{kind}" x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="18" rx="3"/>',
            f'<text class="small" x="{x + width + 6:.1f}" y="{y + 16}">{1e3 * seconds:.2f} ms</text>',
        ]
    parts.append(f'<text class="small" x="12" y="{TOP + len(trace) * ROW + 14}">{html.escape(linked(trace))}</text>')
    height = TOP + len(trace) * ROW + 28
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{html.escape(about)}">'
    return "\n".join([head, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def linked(trace: Sequence[Span]) -> str:
    """What the batch has in common with other traces."""
    batch = next(span for span in trace if span["name"] == "batch")
    rows, calls = batch["attributes"]["resnet.batch.rows"], len(batch["links"])
    return (
        f"batch {batch['attributes']['resnet.batch']}: {rows} rows; it links to {calls} traced calls, and the compute of each links to it"
    )


def moment(span: Span, which: str) -> float:
    """Seconds since 1970."""
    return datetime.fromisoformat(span[which]).timestamp()


if __name__ == "__main__":
    main(*sys.argv[1:])
