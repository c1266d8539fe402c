"""Draw the dashboard without Grafana: each panel's query as Prometheus answers it, in the dashboard's layout.

python -m deploy.picture http://localhost:9090 docs/images/dashboard.png --minutes 10
"""

import argparse
import math
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.check.dashboard import Panel, Target, panels
from deploy.check.prometheus import Prometheus

COLUMNS = 24
INCHES_X, INCHES_Y = 0.75, 0.42
POINTS = 120
INK, FAINT, GROUND, CARD = "#d8d9da", "#8e8e8e", "#111217", "#181b1f"
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5794f2", "#96d98d", "#ffcb7d", "#c4a0e8")
HIDDEN = {"Time", "job", "instance", "__name__"}


def main() -> None:
    """Parse, ask, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", help="such as http://localhost:9090")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="how far back")
    arguments = parser.parse_args()
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 8, "text.color": INK, "axes.edgecolor": "#2c3235"})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    Picture(Prometheus(arguments.prometheus), arguments.minutes).draw().savefig(arguments.out, dpi=100, facecolor=GROUND)


class Picture:
    """All panels on one page."""

    def __init__(self, prometheus: Prometheus, minutes: float) -> None:
        self.prometheus = prometheus
        self.end = time.time()
        self.start = self.end - 60 * minutes
        self.panels = list(panels())
        self.height = max(y + h for _, y, _, h in (panel.place for panel in self.panels))

    def draw(self) -> Figure:
        """The page."""
        figure = Figure(figsize=(COLUMNS * INCHES_X, self.height * INCHES_Y))
        kinds = {"row": self._row, "stat": self._stat, "table": self._table, "heatmap": self._heatmap, "timeseries": self._series}
        for panel in self.panels:
            kinds[panel.kind](self._axes(figure, panel), panel)
        return figure

    def _axes(self, figure: Figure, panel: Panel) -> Axes:
        """The panel's card, and in it the axes that its data gets: margins are in grid units, for title, ticks and legend."""
        x, y, w, h = panel.place
        card = figure.add_axes((*self._at(x + 0.06, y + h - 0.08), (w - 0.12) / COLUMNS, (h - 0.16) / self.height))
        card.set(xticks=[], yticks=[], facecolor=GROUND if panel.kind == "row" else CARD)
        card.spines[:].set_visible(panel.kind != "row")
        if panel.kind != "row":
            card.text(0.12 / w, 1 - 0.35 / h, panel.title, transform=card.transAxes, va="top", fontsize=9, weight="bold")
        if panel.kind not in ("timeseries", "heatmap"):
            return card
        axes = figure.add_axes(
            (*self._at(x + 1.1, y + h - self._legend(panel) - 0.9), (w - 1.4) / COLUMNS, (h - 2.6 - self._legend(panel)) / self.height)
        )
        axes.set_facecolor(CARD)
        axes.tick_params(colors=FAINT, labelsize=7, length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#2c3235", linewidth=0.6)
        return axes

    def _legend(self, panel: Panel) -> float:
        return 1.0 if panel.kind == "timeseries" else 0.2

    def _at(self, x: float, bottom: float) -> tuple[float, float]:
        return x / COLUMNS, 1 - bottom / self.height

    def _row(self, axes: Axes, panel: Panel) -> None:
        axes.text(0.003, 0.4, panel.title, transform=axes.transAxes, va="center", fontsize=10, weight="bold")

    def _stat(self, axes: Axes, panel: Panel) -> None:
        series = self.prometheus.query(panel.targets[0].expression)
        value = float(series[0]["value"][1]) if series else math.nan
        axes.text(0.5, 0.4, quantity(value, panel.unit), transform=axes.transAxes, ha="center", va="center", fontsize=20, color=COLOURS[0])

    def _table(self, axes: Axes, panel: Panel) -> None:
        organise = panel.raw["transformations"][0]["options"]
        names: dict[str, str] = organise["renameByName"]
        rows = [series["metric"] | {"Value": quantity(float(series["value"][1]), panel.unit)} for series in self._instant(panel.targets[0])]
        columns = [name for name in (rows[0] if rows else {}) if name not in HIDDEN]
        cells = [[shorten(row[name]) for name in columns] for row in sorted(rows, key=lambda row: depth(row["model"]))]
        if not cells:
            return
        table = axes.table(cells, colLabels=[names.get(name, name) for name in columns], bbox=(0.01, 0.04, 0.98, 0.78), cellLoc="left")  # type: ignore[arg-type]  # the stubs want a Bbox; four numbers work
        table.auto_set_font_size(False)
        table.auto_set_column_width(list(range(len(columns))))
        for (line, _), cell in table.get_celld().items():
            cell.set(facecolor=CARD, edgecolor="#2c3235", linewidth=0.5)
            cell.visible_edges = "B"
            cell.get_text().set(fontsize=7.5, color="#8ab8ff" if line == 0 else INK)

    def _heatmap(self, axes: Axes, panel: Panel) -> None:
        buckets = sorted(self._range(panel.targets[0]), key=lambda series: float(series["metric"]["le"]))
        if not buckets:
            return
        times = sorted({float(point[0]) for series in buckets for point in series["values"]})
        counts = [[0.0] * len(times)]
        for series in buckets:
            values = {float(moment): float(value) for moment, value in series["values"]}
            counts.append([values.get(moment, 0.0) for moment in times])
        differences = [[max(0.0, b - a) for a, b in zip(low, high, strict=True)] for low, high in pairwise(counts)]
        axes.pcolormesh([moment - self.end for moment in times], range(len(buckets)), differences, cmap="Blues", shading="nearest")
        axes.set_yticks(range(len(buckets)), [f"<= {series['metric']['le']}" for series in buckets])
        self._time_axis(axes)

    def _series(self, axes: Axes, panel: Panel) -> None:
        found = [(legend(target, series["metric"]), series["values"]) for target in panel.targets for series in self._range(target)]
        found.sort(key=lambda one: depth(one[0]))
        stacked = panel.raw["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal"
        if not found:
            axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=11)
        elif stacked:
            self._stack(axes, found)
        else:
            for colour, (name, values) in enumerate(found):
                points = [(float(moment) - self.end, float(value)) for moment, value in values]
                axes.plot(*zip(*points, strict=True), color=COLOURS[colour % len(COLOURS)], linewidth=1.4, label=name)
        axes.set_ylim(bottom=0, top=None if found and axes.get_ylim()[1] > 0 else 1)
        ticks = axes.get_yticks()
        axes.set_yticks(ticks, [quantity(tick, panel.unit) for tick in ticks])
        self._time_axis(axes)
        if found:
            across = max(2, int(panel.place[2] // 2.6))
            axes.legend(
                loc="upper left", bbox_to_anchor=(-0.02, -0.13), ncol=across, fontsize=6.5, frameon=False, labelcolor=INK, handlelength=1.0
            )

    def _stack(self, axes: Axes, found: list[tuple[str, list[list[Any]]]]) -> None:
        times = sorted({float(point[0]) for _, values in found for point in values})
        layers = [[float(dict(map(tuple, values)).get(moment, 0)) for moment in times] for _, values in found]
        colours = [COLOURS[index % len(COLOURS)] for index in range(len(found))]
        axes.stackplot([moment - self.end for moment in times], layers, labels=[name for name, _ in found], colors=colours, alpha=0.6)

    def _time_axis(self, axes: Axes) -> None:
        axes.set_xlim(self.start - self.end, 0)
        ticks = [-60.0 * minute for minute in range(int((self.end - self.start) / 60), -1, -2)]
        axes.set_xticks(ticks, [time.strftime("%H:%M", time.gmtime(self.end + tick)) for tick in ticks])

    def _instant(self, target: Target) -> list[dict[str, Any]]:
        return self.prometheus.query(target.expression)

    def _range(self, target: Target) -> list[dict[str, Any]]:
        step = (self.end - self.start) / POINTS
        series = self.prometheus.matrix(target.expression, self.start, self.end, step)
        return [one | {"values": [point for point in one["values"] if point[1] != "NaN"]} for one in series]


def legend(target: Target, labels: dict[str, str]) -> str:
    """Grafana's legend template, filled in."""
    text = target.legend
    for name, value in labels.items():
        text = text.replace(f"{{{{{name}}}}}", value)
    return text


def depth(name: str) -> tuple[str, int, str]:
    """Sorts resnet20 before resnet110."""
    letters = name.split(maxsplit=1)[0] if name else ""
    digits = "".join(character for character in letters if character.isdigit())
    return letters.rstrip("0123456789"), int(digits or 0), name


def shorten(text: str) -> str:
    """A digest is known by its beginning."""
    return f"{text[:12]}..." if len(text) > 40 else text


def quantity(value: float, unit: str) -> str:
    """A value as Grafana would show it in this unit."""
    if math.isnan(value):
        return "no data"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 else f"{1e3 * value:.3g} ms"
    if unit == "percentunit":
        return f"{100 * value:.4g} %"
    if unit == "bytes":
        return f"{value / 2**30:.3g} GiB" if value >= 2**30 else f"{value / 2**20:.3g} MiB"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
