"""Plots, drawn without a screen."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from resnet_models.degradation import FAMILIES, Run
from resnet_models.files import write_atomically

COLOURS = ("#c9a227", "#b3261e")
TITLES = {"plain": "plain networks", "resnet": "residual networks"}


def draw_degradation(runs: Sequence[Run], path: Path) -> None:
    """As the paper's Fig. 6: test error bold, training error dashed, plain left and residual right on one scale."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, family in zip(panels, FAMILIES, strict=True):
        for colour, run in zip(COLOURS, [run for run in runs if run.name.startswith(family)], strict=True):
            epochs = [point.epoch for point in run.curve]
            panel.plot(epochs, [p.test_error for p in run.curve], color=colour, linewidth=2, label=f"{run.name} test")
            panel.plot(epochs, [p.train_error for p in run.curve], color=colour, linewidth=1, linestyle="--", label=f"{run.name} training")
        panel.set(title=TITLES[family], xlabel="epoch", ylim=(0, _top(runs)))
        panel.grid(alpha=0.3)
        panel.legend()
    panels[0].set_ylabel("error, %")
    write_atomically(path, lambda temporary: figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=130))


def _top(runs: Sequence[Run]) -> float:
    """Leave out the first epoch, which would flatten all that follows."""
    later = [error for run in runs for point in run.curve[1:] or run.curve for error in (point.test_error, point.train_error)]
    return min(100.0, 1.05 * max(later))
