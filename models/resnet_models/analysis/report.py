"""The report: one HTML file with everything in it."""

import base64
import html
import io
from pathlib import Path

from matplotlib.figure import Figure

from resnet_models.analysis import figures, findings
from resnet_models.analysis.findings import Finding
from resnet_models.analysis.study import Study
from resnet_models.files import write_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
img { width: 100%; } section { margin: 2.5rem 0; } h1, h2 { line-height: 1.2; }
dl { display: grid; grid-template-columns: 6rem 1fr; gap: .3rem 1rem; } dt { color: #666; } dd { margin: 0; }
.yes { color: #1b6e2d; font-weight: 600; } .no { color: #b3261e; font-weight: 600; } .open { color: #666; font-weight: 600; }
"""
VERDICTS = {True: ("yes", "agrees"), False: ("no", "does not agree"), None: ("open", "not decided by this run")}


def write_report(study: Study, command: str, path: Path) -> None:
    """Write the study as HTML."""
    sections = [
        _section("Gradient highway", figures.gradient_figure(study), findings.gradient_finding(study)),
        _section("An ensemble of paths", figures.path_figure(study), findings.path_finding(study)),
        _section("Lesions", figures.lesion_figure(study), findings.lesion_finding(study)),
        _section("Residual magnitudes", figures.magnitude_figure(study), findings.magnitude_finding(study)),
        _section("What it sees", figures.activation_figure(study), None),
    ]
    intro = (
        f"<p>Measured on {study.images} of the {html.escape(study.source)} with <code>{html.escape(command)}</code>. "
        "Every verdict is computed from the numbers of this run.</p>"
    )
    title = f"Why {study.name} trains"
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style></head>"
        f"<body><h1>{title}</h1>{intro}{''.join(sections)}</body></html>\n"
    )

    def write(temporary: Path) -> None:
        temporary.write_text(page, encoding="utf-8")

    write_atomically(path, write)


def _section(title: str, figure: Figure, finding: Finding | None) -> str:
    text = (
        "<p>Per image: the image, its class activation map (Zhou et al., arXiv 1512.04150) with the answer, and the three most "
        "active channels at the end of each stage.</p>"
    )
    if finding is not None:
        css, words = VERDICTS[finding.agrees]
        text = (
            f"<dl><dt>claim</dt><dd>{html.escape(finding.claim)}</dd><dt>measured</dt><dd>{html.escape(finding.measured)}</dd>"
            f"<dt></dt><dd class='{css}'>{words}</dd></dl>"
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    picture = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"<section><h2>{title}</h2><img alt='{title}' src='data:image/png;base64,{picture}'>{text}</section>"
