"""What the plots show of a report: models in order, their names, colours, and the load they are compared at."""

from dataclasses import dataclass

from resnet_bench.report.palette import MARKERS, SERIES
from resnet_bench.report.wording import labels
from resnet_bench.schema import ModelResult, Point, Report


@dataclass(frozen=True)
class Shown:
    """A model as the plots show it."""

    model: ModelResult
    label: str
    colour: str
    marker: str

    @property
    def tick(self) -> str:
        """The label on two lines where it is long."""
        return self.label.replace(" ", "\n", 1)

    @property
    def calm(self) -> Point | None:
        """The load at which latencies are compared: 50 % of capacity. At 80 % every p99 is near the SLO, which drew the line."""
        return self.model.point("half") if self.model.capacity is not None else self.busy

    @property
    def busy(self) -> Point | None:
        """The load at which costs are compared: 80 % of capacity, or the last load where no capacity was looked for."""
        if self.model.capacity is not None:
            return self.model.point("busy")
        asked = [point for point in self.model.points if point.kind in ("rate", "closed")]
        return asked[-1] if asked else None


@dataclass(frozen=True)
class View:
    """A report as the plots show it; more models than colours begin the colours again."""

    report: Report
    models: tuple[Shown, ...]

    @classmethod
    def of(cls, report: Report) -> "View":
        """All models, in the report's order: shallow first."""
        names = zip(labels(report), report.models, strict=True)
        return cls(report, tuple(Shown(m, name, SERIES[i % len(SERIES)], MARKERS[i % len(MARKERS)]) for i, (name, m) in enumerate(names)))

    @property
    def calm_name(self) -> str:
        """The load of `Shown.calm` in words."""
        return self.busy_name.replace("80 %", "50 %")

    @property
    def busy_name(self) -> str:
        """The load of `Shown.busy` in words."""
        if any(shown.model.capacity is not None for shown in self.models):
            return "at 80 % of its capacity"
        point = next((shown.busy for shown in self.models if shown.busy is not None), None)
        return f"at {point.load}" if point else "under load"
