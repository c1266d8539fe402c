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
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from matplotlib.transforms import Bbox

from deploy.check.dashboard import Panel, Target, panels
from deploy.check.prometheus import Prometheus

COLUMNS = 24
INCHES_X, INCHES_Y = 0.7, 0.36
POINTS = 120
INK, FAINT, GROUND, CARD = "#d8d9da", "#8e8e8e", "#111217", "#181b1f"
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#b877d9", "#5794f2", "#96d98d", "#ffcb7d", "#c4a0e8")
HEAT = LinearSegmentedColormap.from_list("heat", (CARD, "#5794f2", "#e0efff"))
NAMED = {"green": "#73bf69", "blue": "#5794f2", "purple": "#b877d9", "gray": "#8e8e8e", "orange": "#ff9830", "yellow": "#fade2a",
    "red": "#f2495c", "dark-red": "#c4162a"}  # fmt: skip


def main() -> None:
    """Parse, ask, draw, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prometheus", help="such as http://localhost:9090")
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=10.0, help="how far back")
    arguments = parser.parse_args()
    mpl.rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.edgecolor": "#2c3235"})
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
            card.text(0.12 / w, 1 - 0.35 / h, panel.title, transform=card.transAxes, va="top", fontsize=10, weight="bold")
        if panel.kind not in ("timeseries", "heatmap"):
            return card
        axes = figure.add_axes(
            (*self._at(x + 1.1, y + h - self._legend(panel) - 0.9), (w - 1.4) / COLUMNS, (h - 2.6 - self._legend(panel)) / self.height)
        )
        axes.set_facecolor(CARD)
        axes.tick_params(colors=FAINT, labelsize=8, length=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#2c3235", linewidth=0.6)
        axes.set_axisbelow(True)
        return axes

    def _legend(self, panel: Panel) -> float:
        return 1.3 if panel.kind == "timeseries" else 0.1

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
        columns = sorted(organise["indexByName"], key=organise["indexByName"].__getitem__)
        rows = [one["metric"] | {"Value": quantity(float(one["value"][1]), panel.unit)} for one in self._instant(panel.targets[0])]
        cells = [[shorten(row[name]) for name in columns] for row in sorted(rows, key=lambda row: depth(row["model"]))]
        if not cells:
            return
        headings = [names.get(name, name) for name in columns]
        table = axes.table(cells, colLabels=headings, bbox=Bbox.from_bounds(0.01, 0.08, 0.98, 0.74), cellLoc="left", colLoc="left")
        table.auto_set_font_size(False)
        table.auto_set_column_width(list(range(len(columns))))
        for (line, _), cell in table.get_celld().items():
            cell.set(facecolor=CARD, edgecolor="#2c3235", linewidth=0.5)
            cell.visible_edges = "B"
            cell.get_text().set(fontsize=8.5, color="#8ab8ff" if line == 0 else INK)

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
        axes.grid(visible=False)
        axes.pcolormesh([moment - self.end for moment in times], range(len(buckets)), differences, cmap=HEAT, shading="nearest")
        axes.set_yticks(range(len(buckets)), [series["metric"]["le"].removesuffix(".0") for series in buckets])
        self._time_axis(axes)

    def _series(self, axes: Axes, panel: Panel) -> None:
        found = [(legend(target, one["metric"]), one["values"]) for target in panel.targets for one in self._range(target)]
        found.sort(key=lambda one: depth(one[0]))
        self._time_axis(axes)
        if not found:
            axes.set_yticks([])
            axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", va="center", color=FAINT, fontsize=12)
            return
        colours = self._colours(panel, [name for name, _ in found])
        if panel.raw["fieldConfig"]["defaults"]["custom"]["stacking"]["mode"] == "normal":
            self._stack(axes, found, colours)
        else:
            for (name, values), colour in zip(found, colours, strict=True):
                points = [(float(moment) - self.end, float(value)) for moment, value in values]
                style = ":" if name.endswith((" queue", " restarts")) else "-"
                axes.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=1.5, label=name)
        self._value_axis(axes, panel.unit)
        across = -(-len(found) // 2) if len(found) > 4 else 4
        look = {
            "fontsize": 7.5 if panel.place[2] > 8 else 6.5,
            "columnspacing": 1.0,
            "frameon": False,
            "labelcolor": INK,
            "handlelength": 1.2,
        }
        axes.legend(loc="upper left", bbox_to_anchor=(-0.03, -0.12), ncol=across, **look)

    def _colours(self, panel: Panel, names: list[str]) -> list[str]:
        """The dashboard's own for a name it fixes; else one for each model, so that a depth looks the same in every panel."""
        overrides = panel.raw["fieldConfig"]["overrides"]
        properties = {one["matcher"]["options"]: one["properties"][0] for one in overrides}
        fixed = {name: NAMED[one["value"]["fixedColor"]] for name, one in properties.items() if one["id"] == "color"}
        models = sorted({series["metric"]["model"] for series in self.prometheus.query("resnet_model_info")}, key=depth)
        known = {model: COLOURS[index % len(COLOURS)] for index, model in enumerate(models)}
        rest = iter(COLOURS[len(known) :] * len(names))
        return [fixed.get(name) or next((known[word] for word in name.split() if word in known), None) or next(rest) for name in names]

    def _value_axis(self, axes: Axes, unit: str) -> None:
        top = axes.get_ylim()[1]
        axes.set_ylim(0, top if top > 0.06 or unit != "short" else 1)
        if unit == "bytes":
            axes.yaxis.set_major_locator(MultipleLocator(2 ** math.ceil(math.log2(top / 5))))
        ticks = [tick for tick in axes.get_yticks() if 0 <= tick <= axes.get_ylim()[1]]
        axes.set_yticks(ticks, [quantity(tick, unit) for tick in ticks])

    def _stack(self, axes: Axes, found: list[tuple[str, list[list[Any]]]], colours: list[str]) -> None:
        times = sorted({float(point[0]) for _, values in found for point in values})
        layers = [[float(dict(map(tuple, values)).get(moment, 0)) for moment in times] for _, values in found]
        axes.stackplot([moment - self.end for moment in times], layers, labels=[name for name, _ in found], colors=colours, alpha=0.6)

    def _time_axis(self, axes: Axes) -> None:
        axes.set_xlim(self.start - self.end, 0)
        first = 60 * math.ceil(self.start / 60)
        ticks = range(first, int(self.end) + 1, 60 if self.end - self.start <= 600 else 300)
        axes.set_xticks([tick - self.end for tick in ticks], [time.strftime("%H:%M", time.gmtime(tick)) for tick in ticks])

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
    if unit == "reqps":
        return f"{value:.3g} /s"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
