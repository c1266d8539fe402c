"""The report's figures."""

from collections.abc import Sequence
from math import comb
from statistics import mean
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from resnet_models.analysis.activations import Seen
from resnet_models.analysis.initialisation import FAMILIES, Initialisation
from resnet_models.analysis.landscape import Landscape
from resnet_models.analysis.lesions import Lesions
from resnet_models.analysis.study import Study

RESIDUAL, PLAIN, ACCENT = "#1f5fa8", "#b3261e", "#c9a227"
CEILING = 6.0
"""Nats, above which a landscape is cut off: guessing costs 2.3."""


def gradient_figure(study: Study) -> Figure:
    """Gradient norms at initialisation with and without normalisation and after training, and the shortcut's share."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    panels = figure.subplots(1, 4)
    kinds = (("batch norm", "at initialisation"), ("no norm", "at initialisation, without batch norm"))
    for panel, (kind, title) in zip(panels, kinds, strict=False):
        for name, colour in ((study.name, RESIDUAL), (study.twin, PLAIN)):
            for number, profile in enumerate(study.initial[f"{name}, {kind}"]):
                _norms(panel, profile.norms, colour, name if number == 0 else None)
        panel.set_title(title)
    for name, profile in study.trained.items():
        _norms(panels[2], profile.norms, RESIDUAL if name == study.name else PLAIN, name)
    panels[2].set_title("after training")
    for panel in panels[:3]:
        panel.set(xlabel="block", ylabel="|dL/dx| at its input")
        panel.legend()
    shares = (
        ("at initialisation", ACCENT, study.initial[f"{study.name}, batch norm"][0]),
        ("after training", RESIDUAL, study.trained[study.name]),
    )
    for label, colour, profile in shares:
        panels[3].plot(
            range(1, len(profile.identity_shares) + 1), profile.identity_shares, color=colour, marker="o", markersize=3, label=label
        )
    panels[3].axhline(1, color="grey", linewidth=0.8)
    panels[3].set(title="share by the shortcut", xlabel="block", ylabel="projection on the gradient")
    panels[3].legend()
    return _gridded(figure)


def _norms(panel: Axes, norms: Sequence[float], colour: str, label: str | None) -> None:
    panel.semilogy(range(1, len(norms) + 1), norms, color=colour, marker="o", markersize=3, linewidth=1, label=label)


def correlation_figure(study: Study) -> Figure:
    """Correlation of gradients by distance between inputs."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panel = figure.subplots()
    for name, lines in study.correlations.items():
        colour, style = (PLAIN if name.startswith("plain") else RESIDUAL), ("-" if name in (study.name, study.twin) else ":")
        panel.plot(
            [mean(values) for values in zip(*lines, strict=True)], color=colour, linestyle=style, marker="o", markersize=3, label=name
        )
    panel.axhline(0, color="grey", linewidth=0.8)
    panel.set(xlabel="steps between two inputs on the line from one image to another", ylabel="correlation of gradients")
    panel.legend()
    return _gridded(figure)


def path_figure(study: Study) -> Figure:
    """Path lengths, gradient of one path by length with its interval, and what all paths of a length contribute, both ways."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    count = len(study.sums.shares) - 1
    lengths = range(count + 1)
    left.bar(lengths, [_binomial(count, length) for length in lengths], color=RESIDUAL)
    left.set(title="paths by length (binomial)", ylabel="share of all paths")
    found = study.samples.of_length()
    values = np.array([max(one.value, 1e-12) for one in found])
    low = np.array([max(one.low, 1e-12) if np.isfinite(one.low) else one.value for one in found])
    middle.errorbar(
        lengths, values, yerr=[np.clip(values - low, 0, None), values - low], color=RESIDUAL, marker="o", markersize=3, linewidth=1
    )
    middle.set(title="gradient of one path (mean, 95 %)", ylabel="norm at the first block", yscale="log")
    sampled = [mean(drawn) for drawn in zip(*study.samples.contributions(), strict=True)]
    right.bar(lengths, study.sums.shares, color=ACCENT, label="exact sum of all paths")
    right.plot(lengths, sampled, color=RESIDUAL, marker="o", markersize=3, linewidth=1, label="number times norm of one")
    right.set(title="gradient of all paths of a length", ylabel="share")
    right.legend()
    for panel in (left, middle, right):
        panel.set_xlabel("residual branches on the path")
    return _gridded(figure)


def _binomial(count: int, length: int) -> float:
    return float(comb(count, length) / 2**count)


def lesion_figure(found: dict[str, Lesions], about: str) -> Figure:
    """Single deletions, random deletions, reordering by Kendall's tau, of one network and its plain twin."""
    figure = Figure(figsize=(13, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3, sharey=True)
    for name, lesions in ((name, found[name]) for name in (about, about.replace("resnet", "plain")) if name in found):
        colour = RESIDUAL if name == about else PLAIN
        left.plot(range(1, len(lesions.single) + 1), lesions.single, color=colour, marker="o", markersize=3, label=name)
        left.axhline(lesions.whole, color=colour, linestyle=":", linewidth=1)
        _draws(middle, lesions, colour, name)
        right.plot(
            [tau for tau, _ in lesions.reordered], [error for _, error in lesions.reordered], "o", color=colour, markersize=4, label=name
        )
    for number, index in enumerate(found[about].transitions):
        left.axvline(index + 1, color=ACCENT, linewidth=1, label=None if number else "resolution changes")
    left.set(title="one block deleted (dotted: none)", xlabel="block deleted", ylabel="test error, %", ylim=(0, 100))
    middle.set(title="random blocks deleted", xlabel="number deleted")
    right.set(title="blocks in another order", xlabel="Kendall's tau with the trained order")
    right.invert_xaxis()
    for panel in (left, middle, right):
        panel.legend()
    return _gridded(figure)


def _draws(panel: Axes, lesions: Lesions, colour: str, name: str) -> None:
    panel.plot([k for k, _ in lesions.deleted], [mean(errors) for _, errors in lesions.deleted], color=colour, label=name)
    points = [(k, error) for k, errors in lesions.deleted for error in errors]
    panel.plot([k for k, _ in points], [error for _, error in points], "o", color=colour, markersize=3, alpha=0.6)


def response_figure(study: Study) -> Figure:
    """Standard deviation of layer responses, in the order of layers and sorted, as in the paper's Fig. 7."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, found in sorted(study.responses.items()):
        style, depth = ("--" if name.startswith("plain") else "-"), int("".join(filter(str.isdigit, name)))
        colour = _shade(depth, name.startswith("plain"))
        left.plot(found.layers, style, color=colour, linewidth=1, label=name)
        right.plot(sorted(found.layers, reverse=True), style, color=colour, linewidth=1, label=name)
    left.set(title="in the order of layers", xlabel="layer", ylabel="standard deviation")
    right.set(title="sorted", xlabel="layer, sorted by magnitude")
    right.legend()
    return _gridded(figure)


def _shade(depth: int, plain: bool) -> tuple[float, float, float]:
    strength = min(1.0, 0.35 + depth / 90)
    colour = (0.70, 0.15, 0.12) if plain else (0.12, 0.37, 0.66)
    return tuple(1 - strength * (1 - part) for part in colour)  # type: ignore[return-value]  # three parts


def initialisation_figure(found: Initialisation) -> Figure:
    """Branches' part of the variance and growth of the skip path with and without normalisation; what shortcuts alone carry back."""
    figure = Figure(figsize=(13, 7.2), layout="constrained")
    panels = figure.subplots(2, 3)
    for row, family in zip(panels, FAMILIES, strict=True):
        depths = sorted(int(name.removeprefix(family)) for name in found.branches if name.removeprefix(family).isdigit())
        for depth, colour in zip(depths, colormaps["viridis"](np.linspace(0.85, 0, len(depths))), strict=True):
            name = f"{family}{depth}"
            for profiles, style, what in ((found.branches, "-", ""), (found.bare, ":", ", no norm")):
                one = profiles[name][0]
                row[0].plot(range(1, len(one.shares) + 1), one.shares, style, color=colour, linewidth=1, label=f"{name}{what}")
                row[1].semilogy(range(1, len(one.skips) + 1), one.skips, style, color=colour, linewidth=1, label=f"{name}{what}")
        row[0].set(title="the branch's part of the variance", xlabel="block", ylim=(0, 1))
        row[1].set(title="variance of the skip path", xlabel="block")
        row[0].legend(fontsize=7)
    carried, share = panels[0][2], panels[1][2]
    for family, paint in zip(FAMILIES, (RESIDUAL, ACCENT), strict=True):
        name = f"{family}{found.depth}"
        for number, profile in enumerate(found.shortcuts[name]):
            label = None if number else name
            carried.plot(range(2, len(profile.arrivals) + 2), profile.arrivals, color=paint, marker="o", markersize=3, label=label)
            share.plot(range(1, len(profile.shares) + 1), profile.shares, color=paint, linewidth=1, label=label)
    carried.set(title="gradient by shortcuts alone", xlabel="block of the last stage", ylabel="of its norm at the end", ylim=(0, 1.1))
    share.set(title="the shortcut's share of the whole gradient", xlabel="block")
    carried.legend()
    share.legend()
    return _gridded(figure)


def landscape_figure(landscapes: dict[str, Landscape]) -> Figure:
    """A surface above and contours below, one column for each network, on one scale."""
    figure = Figure(figsize=(6.2 * len(landscapes), 9), layout="constrained")
    for column, (name, found) in enumerate(landscapes.items(), start=1):
        x, y = np.meshgrid(found.offsets, found.offsets)
        z = np.minimum(np.asarray(found.losses), CEILING)
        above: Any = figure.add_subplot(2, len(landscapes), column, projection="3d")
        above.plot_surface(x, y, z, cmap="viridis", vmin=0, vmax=CEILING, linewidth=0, rstride=1, cstride=1)
        above.set(title=f"{name}: loss, cut off at {CEILING:g}", zlim=(0, CEILING))
        below = figure.add_subplot(2, len(landscapes), column + len(landscapes))
        lines = below.contour(x, y, z, levels=np.linspace(0.25, CEILING, 24), cmap="viridis", vmin=0, vmax=CEILING, linewidths=1)
        below.clabel(lines, fontsize=7)
        below.plot(0, 0, "+", color="black")
        below.set(title=f"{name}: contours", xlabel="first direction, filter norms", ylabel="second direction", aspect="equal")
    return figure


def activation_figure(shown: Sequence[tuple[Tensor, str, Seen]], labels: Sequence[str]) -> Figure:
    """A row for each image: itself, its class activation map (scaled to each image's own range), and three channels of each stage."""
    channels = 3
    stages = len(shown[0][2].stages)
    figure = Figure(figsize=(13, 1.7 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 2 + stages * channels, squeeze=False)
    for row, (pixels, truth, seen) in zip(panels, shown, strict=True):
        row[0].imshow(pixels.numpy())
        row[0].set_title(f"{truth}", fontsize=9)
        row[1].imshow(pixels.numpy())
        row[1].imshow(seen.class_map.numpy(), cmap="jet", alpha=0.45)
        row[1].set_title(f"→ {labels[seen.predicted]} {seen.probability:.0%}", fontsize=9)
        for stage, maps in enumerate(seen.stages):
            for channel in range(channels):
                panel = row[2 + stage * channels + channel]
                panel.imshow(maps[channel].numpy(), cmap="viridis")
                panel.set_title(f"stage {stage + 1}", fontsize=8)
    for panel in panels.flat:
        panel.set_axis_off()
    return figure


def _gridded(figure: Figure) -> Figure:
    for panel in figure.axes:
        panel.grid(alpha=0.3)
    return figure
