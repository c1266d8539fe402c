"""A hook of mkdocs: what the site takes from the code while it is built. `make docs` calls it."""

import re
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase
from resnet_server.metrics.metrics import Metrics

MARKER = "<!-- metrics -->"
PICTURE = re.compile(r"<picture>.*?</picture>", re.DOTALL)
OWN = "resnet_"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return markdown.replace(MARKER, metrics_table())


def metrics_table() -> str:
    """Name as scraped, kind, labels and help of every metric that the server registers."""
    lines = ["| metric | kind | labels | |", "|---|---|---|---|"]
    for metric in sorted(registered(), key=lambda metric: metric._name):
        name = f"{metric._name}_total" if metric._type == "counter" else metric._name
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        lines.append(f"| `{name}` | {metric._type} | {labels} | {metric._documentation} |")
    return "\n".join(lines)


def registered() -> list[MetricWrapperBase]:
    """The metrics of a server, from the one file that defines them."""
    metrics = Metrics(CollectorRegistry())
    return [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase) and value._name.startswith(OWN)]
