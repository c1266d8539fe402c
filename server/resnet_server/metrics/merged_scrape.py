"""One consistent scrape over several processes: samples with the same name and labels are added up."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

LARGEST = "_max"
ADDS_UP = ("counter", "histogram", "summary")


def merge(families: Iterable[Metric]) -> list[Metric]:
    """One family of each name; samples with the same name and labels are added up, or for a largest value the largest is taken."""
    merged: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    examples: dict[tuple[str, tuple[tuple[str, str], ...]], Exemplar] = {}
    for family in families:
        merged.setdefault(family.name, Metric(family.name, family.documentation, family.type))
        sums = values.setdefault(family.name, {})
        for sample in family.samples:
            key = (sample.name, tuple(sample.labels.items()))
            before = sums.get(key, 0.0)
            sums[key] = max(before, sample.value) if family.name.endswith(LARGEST) else before + sample.value
            if sample.exemplar is not None:
                examples[key] = sample.exemplar
    for name, sums in values.items():
        for (full_name, labels), value in sums.items():
            merged[name].add_sample(full_name, dict(labels), value, exemplar=examples.get((full_name, labels)))
    return list(merged.values())


def lasting(families: Iterable[Metric]) -> list[Metric]:
    """What must not be forgotten when the process that counted it ends: counters and histograms, not gauges."""
    return [family for family in families if family.type in ADDS_UP]


class MergedCollector(Collector):
    """Collects from `sources` anew at each scrape."""

    def __init__(self, *sources: Callable[[], Iterable[Metric]]) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        """All families, merged."""
        yield from merge(family for source in self._sources for family in source())
