"""The dashboard's panels and their queries, with its variables filled in."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATH = Path(__file__).parents[1] / "grafana" / "dashboards" / "resnet-serving.json"
NEEDS_GPU = "resnet_gpu_"


@dataclass(frozen=True)
class Target:
    """One query: PromQL with every model chosen, and the legend's template."""

    expression: str
    legend: str

    @property
    def needs_gpu(self) -> bool:
        """True where only a GPU can answer."""
        return NEEDS_GPU in self.expression


@dataclass(frozen=True)
class Panel:
    """A panel's kind, title, unit, place in a grid 24 wide, and queries; `raw` is Grafana's own JSON."""

    kind: str
    title: str
    unit: str
    place: tuple[int, int, int, int]
    targets: tuple[Target, ...]
    raw: dict[str, Any]


def panels(path: Path = PATH) -> Iterator[Panel]:
    """Every panel; a row's heading is one without queries."""
    for raw in json.loads(path.read_text(encoding="utf-8"))["panels"]:
        grid = raw["gridPos"]
        targets = tuple(Target(target["expr"].replace("$model", ".+"), target["legendFormat"]) for target in raw.get("targets", []))
        unit = raw.get("fieldConfig", {}).get("defaults", {}).get("unit", "")
        yield Panel(raw["type"], raw["title"], unit, (grid["x"], grid["y"], grid["w"], grid["h"]), targets, raw)
