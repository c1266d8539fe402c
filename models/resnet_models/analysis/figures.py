"""The report's figures."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from resnet_models.analysis.ensemble import Lesions
from resnet_models.analysis.study import Study

RESIDUAL, PLAIN, ACCENT = "#1f5fa8", "#b3261e", "#c9a227"


def gradient_figure(study: Study) -> Figure:
    """Gradient norms at initialisation and after training, and the identity path's share."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    blocks = range(1, len(study.trained.norms) + 1)
    for panel, title, ours, twins in (
        (left, "at initialisation", study.initial, study.twin_initial),
        (middle, "after training", study.trained, study.twin_trained),
    ):
        panel.semilogy(blocks, ours.norms, color=RESIDUAL, marker="o", markersize=3, label=study.name)
        if twins is not None:
            panel.semilogy(blocks, twins.norms, color=PLAIN, marker="s", markersize=3, label=study.twin_name)
        panel.set(title=f"gradient norm, {title}", xlabel="block", ylabel="|dL/dx| at the block's input")
        panel.legend()
    right.plot(blocks, study.initial.identity_shares, color=ACCENT, marker="o", markersize=3, label="at initialisation")
    right.plot(blocks, study.trained.identity_shares, color=RESIDUAL, marker="o", markersize=3, label="after training")
    right.axhline(1, color="grey", linewidth=0.8)
    right.set(title="share by the identity path", xlabel="block", ylabel="projection on the gradient")
    right.legend()
    return _gridded(figure)


def path_figure(study: Study) -> Figure:
    """Path lengths, gradient of one path by length, and what all paths of a length contribute."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    lengths = range(len(study.paths.paths))
    left.bar(lengths, study.paths.paths, color=RESIDUAL)
    left.set(title="paths by length (binomial)", xlabel="residual branches on the path", ylabel="share of all paths")
    middle.semilogy(lengths, [max(norm, 1e-12) for norm in study.paths.norms], color=RESIDUAL, marker="o", markersize=3)
    middle.set(title="gradient of one path", xlabel="residual branches on the path", ylabel="norm at the first block")
    right.bar(lengths, study.paths.contributions, color=ACCENT)
    right.set(title="gradient of all paths of a length", xlabel="residual branches on the path", ylabel="share")
    return _gridded(figure)


def lesion_figure(study: Study) -> Figure:
    """Single deletions, random deletions, swaps."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    for lesions, colour, name in ((study.lesions, RESIDUAL, study.name), (study.twin_lesions, PLAIN, study.twin_name)):
        if lesions is None:
            continue
        left.plot(range(1, len(lesions.single) + 1), lesions.single, color=colour, marker="o", markersize=3, label=name)
        left.axhline(lesions.whole, color=colour, linestyle=":", linewidth=1)
        _band(middle, lesions.deleted, colour, name)
        _band(right, lesions.swapped, colour, name)
    _mark_transitions(left, study.lesions)
    left.set(title="one block deleted (dotted: none)", xlabel="block deleted", ylabel="test error, %", ylim=(0, 100))
    middle.set(title="k random blocks deleted", xlabel="k")
    right.set(title="k random swaps of blocks", xlabel="k")
    for panel in (left, middle, right):
        panel.legend()
    return _gridded(figure)


def magnitude_figure(study: Study) -> Figure:
    """Residual magnitude by block."""
    figure = Figure(figsize=(13, 3.2), layout="constrained")
    panel = figure.subplots()
    panel.bar(range(1, len(study.magnitudes) + 1), study.magnitudes, color=RESIDUAL)
    for index in study.lesions.transitions:
        panel.patches[index].set_color(ACCENT)
    panel.set(title="|F(x)| / |shortcut(x)| (yellow: resolution changes)", xlabel="block", ylabel="mean over images")
    return _gridded(figure)


def activation_figure(study: Study) -> Figure:
    """A row for each image: itself, its class activation map, and three channels of each stage."""
    channels = 3
    stages = len(study.shown[0][2].stages)
    figure = Figure(figsize=(13, 1.7 * len(study.shown)), layout="constrained")
    panels = figure.subplots(len(study.shown), 2 + stages * channels, squeeze=False)
    for row, (pixels, truth, seen) in zip(panels, study.shown, strict=True):
        row[0].imshow(pixels.numpy())
        row[0].set_title(f"{truth}", fontsize=9)
        row[1].imshow(pixels.numpy())
        row[1].imshow(seen.class_map.numpy(), cmap="jet", alpha=0.45)
        row[1].set_title(f"→ {study.labels[seen.predicted]} {seen.probability:.0%}", fontsize=9)
        for stage, maps in enumerate(seen.stages):
            for channel in range(channels):
                panel = row[2 + stage * channels + channel]
                panel.imshow(maps[channel].numpy(), cmap="viridis")
                panel.set_title(f"stage {stage + 1}", fontsize=8)
    for panel in panels.flat:
        panel.set_axis_off()
    return figure


def _band(panel: Any, points: Sequence[tuple[int, float, float, float]], colour: str, name: str) -> None:
    ks = [point[0] for point in points]
    panel.plot(ks, [point[1] for point in points], color=colour, marker="o", markersize=3, label=name)
    panel.fill_between(ks, [point[2] for point in points], [point[3] for point in points], color=colour, alpha=0.15)


def _mark_transitions(panel: Any, lesions: Lesions) -> None:
    for position, index in enumerate(lesions.transitions):
        panel.axvline(index + 1, color=ACCENT, linewidth=1, label="resolution changes" if position == 0 else None)


def _gridded(figure: Figure) -> Figure:
    for panel in figure.axes:
        panel.grid(alpha=0.3)
    return figure
