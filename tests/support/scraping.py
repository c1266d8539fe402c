"""What a server's metrics say."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from serving import RunningServer


def counted(server: RunningServer, metric: str, **labels: str) -> float:
    """Sum of the samples of a server's metric with these labels."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as page:  # noqa: S310  # our own server
        families = list(text_string_to_metric_families(page.read().decode()))
    samples = [sample for family in families for sample in family.samples if sample.name == metric]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())
