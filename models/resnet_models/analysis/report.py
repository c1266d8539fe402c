"""The report: one HTML file with everything in it."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from resnet_models.analysis.checks import Claim, counted
from resnet_models.files import write_text_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
img { max-width: 100%; } section { margin: 2.5rem 0; } h1, h2 { line-height: 1.2; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; } th { text-align: left; color: #666; font-weight: 500; }
td, th { padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
.yes { color: #1b6e2d; font-weight: 600; } .no { color: #b3261e; font-weight: 600; } .open { color: #666; font-weight: 600; }
"""
CLASSES = {"holds": "yes", "does not hold": "no", "not decided": "open", "holds in part": "open"}


@dataclass(frozen=True)
class Section:
    """A heading, a figure, the claim that it tests (if any), and what must be known to read it."""

    title: str
    figure: Figure
    claim: Claim | None
    note: str = ""


def write_report(title: str, intro: str, sections: Sequence[Section], path: Path) -> None:
    """Write HTML: for each section a heading, a figure, the claim's parts (if any) and a note."""
    claims = [section.claim for section in sections if section.claim is not None]
    body = "".join(_section(section) for section in sections)
    how = "Every verdict is computed from the numbers of this run; <i>not decided</i> is an interval that holds the bound."
    total = f"<p>{counted(claims)}. {how}</p>"
    write_text_atomically(
        path,
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{html.escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{intro}</p>{total}{body}</body></html>\n",
    )


def _section(section: Section) -> str:
    buffer = io.BytesIO()
    section.figure.savefig(buffer, format="png", dpi=100)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    image = f"<img alt='{section.title}' src='data:image/png;base64,{picture}'>"
    note = f"<p>{html.escape(section.note)}</p>" if section.note else ""
    return f"<section><h2>{section.title}</h2>{image}{_claim(section.claim) if section.claim else ''}{note}</section>"


def _claim(claim: Claim) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(check.part)}</td><td>{html.escape(check.measured)}</td><td>{html.escape(check.bound)}</td>"
        f"<td class='{CLASSES[check.verdict]}'>{check.verdict}</td></tr>"
        for check in claim.checks
    )
    return (
        f"<p><span class='{CLASSES[claim.overall]}'>{claim.overall}</span> — {html.escape(claim.reported)} "
        f"({html.escape(claim.source)})</p>"
        f"<table><tr><th>part</th><th>measured</th><th>bound</th><th>verdict</th></tr>{rows}</table>"
    )
