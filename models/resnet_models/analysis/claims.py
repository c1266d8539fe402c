"""What is claimed of residual networks, tested on the measurements of a study."""

import math
from collections.abc import Sequence
from itertools import pairwise
from math import comb
from statistics import mean, median

from resnet_models.analysis.checks import Check, Claim, decided, judge
from resnet_models.analysis.gradients import GradientProfile
from resnet_models.analysis.landscape import Landscape
from resnet_models.analysis.lesions import Lesions
from resnet_models.analysis.paths import mean_length
from resnet_models.analysis.study import SHALLOW, Study
from resnet_models.statistics import Interval, difference_of_errors, mean_interval, trend

SURE = 0.05
CHANCE = 90.0
"""Percent error of guessing among ten classes."""


def gradient_claim(study: Study) -> Claim:
    """What grows, what shrinks, and what batch normalisation does to it."""
    plain, residual = _growth(study.initial[f"{study.twin}, batch norm"]), _growth(study.initial[f"{study.name}, batch norm"])
    bare = _growth(study.initial[f"{study.twin}, no norm"])
    checks = [
        Check(
            f"the gradient does not vanish towards the input of {study.twin} at initialisation",
            f"norm at block 1 over norm at the last block: 10^{plain}",
            "above 10^0",
            judge(plain.low, plain.high, 0),
        ),
        Check(
            f"batch normalisation makes it grow towards the input of {study.twin}",
            f"10^{plain} with, 10^{bare} without",
            "more with than without",
            judge(plain.low - bare.high, plain.high - bare.low, 0),
        ),
        Check(
            f"shortcuts make it grow less: {study.name} against {study.twin}",
            f"10^{residual} against 10^{plain}",
            "less",
            judge(residual.low - plain.high, residual.high - plain.low, 0, above=False),
        ),
    ]
    if study.twin in study.trained:
        ours, twins = study.trained[study.name].growth, study.trained[study.twin].growth
        text = f"{twins:.2g}-fold in {study.twin}, {ours:.2g}-fold in {study.name}"
        checks.append(Check(f"it has not vanished in {study.twin} after training either", text, "1-fold or more", decided(twins >= 1)))
    return Claim(
        "Gradient norms",
        "He et al., arXiv 1512.03385, section 4.1; Yang et al., arXiv 1902.08129",
        "plain networks with batch normalisation have healthy gradients; batch normalisation makes them explode with depth",
        tuple(checks),
    )


def _growth(profiles: Sequence[GradientProfile]) -> Interval:
    """Log10 of the growth towards the input, over seeds."""
    return mean_interval([math.log10(profile.growth) for profile in profiles])


def correlation_claim(study: Study) -> Claim:
    """Plain networks' gradients become noise with depth."""

    def near(name: str) -> Interval:
        return mean_interval([line[1] for line in study.correlations[name]])

    ours, twin, shallow = near(study.name), near(study.twin), near(f"plain{SHALLOW}")
    checks = [
        Check(
            f"gradients at neighbouring inputs correlate more in {study.name} than in {study.twin}, at initialisation",
            f"{ours} against {twin}",
            "more",
            judge(ours.low - twin.high, ours.high - twin.low, 0),
        )
    ]
    if study.twin != f"plain{SHALLOW}":
        text = f"plain{SHALLOW} {shallow}, {study.twin} {twin}"
        verdict = judge(shallow.low - twin.high, shallow.high - twin.low, 0)
        checks.append(Check("in plain networks the correlation falls with depth", text, "less in the deeper", verdict))
    return Claim(
        "Gradient correlation",
        "Balduzzi et al., arXiv 1702.08591",
        "it falls exponentially with depth in plain networks, as one over the root of the depth in residual ones",
        tuple(checks),
    )


def path_claim(study: Study) -> Claim:
    """Short paths carry the gradient although most paths are long."""
    count = len(study.sums.shares) - 1
    exact, sampled = mean_length(study.sums.shares), study.samples.mean_length()
    norms = [(length, math.log10(max(norm, 1e-30))) for drawn in study.samples.norms for length, norm in enumerate(drawn)]
    tau, p = trend([length for length, _ in norms], [norm for _, norm in norms])
    lengths, share = shortest_share(study)
    checks = (
        Check(
            "weighted by gradient, paths are shorter than most are (sampled: number of paths times norm of one)",
            f"{sampled} branches, of {count / 2:g} on average over all paths",
            f"below {count / 2:g}",
            judge(sampled.low, sampled.high, count / 2, above=False),
        ),
        Check(
            "the same of the exact sum of all paths of a length, in which they cancel",
            f"{exact:.1f} branches; no sampling, hence no interval",
            f"below {count / 2:g}",
            decided(exact < count / 2),
        ),
        Check(
            "one path's gradient shrinks with its length",
            f"Kendall's tau of length and norm {tau:.2f}, p = {p:.1g}",
            f"below 0, p < {SURE}",
            "holds" if tau < 0 and p < SURE else "does not hold" if tau > 0 and p < SURE else "not decided",
        ),
        Check(
            "nine tenths of the gradient come from a small share of the paths",
            f"{lengths[0]} to {lengths[-1]} branches: {100 * share:.2g} % of the 2^{count} paths",
            "under half of them",
            decided(share < 0.5),
        ),
    )
    return Claim(
        "Short paths",
        "Veit et al., arXiv 1605.06431, section 5",
        "in a network of 54 blocks, paths of 5 to 17 blocks (10 to 34 layers), 0.45 % of all, carry the gradient",
        checks,
    )


def shortest_share(study: Study) -> tuple[list[int], float]:
    """The lengths that contribute most until nine tenths of the sampled contributions are reached, and their share of all paths."""
    draws = study.samples.contributions()
    shares = [mean(drawn) for drawn in zip(*draws, strict=True)]
    most: list[int] = []
    for length in sorted(range(len(shares)), key=lambda length: -shares[length]):
        most.append(length)
        if sum(shares[one] for one in most) >= 0.9:
            break
    count = len(shares) - 1
    return sorted(most), sum(comb(count, length) for length in most) / 2**count


def lesion_claims(study: Study) -> list[Claim]:
    """Of the study's network, and of every other one that was hurt: each beside its plain twin."""
    others = [name for name in study.lesions if name.startswith("resnet") and name != study.name]
    return [lesion_claim(study.lesions, name, study.images) for name in (study.name, *others)]


def lesion_claim(lesions: dict[str, Lesions], name: str, images: int) -> Claim:
    """Deleting, deleting several, reordering: each part on its own."""
    twin_name = name.replace("resnet", "plain")
    ours, twin = lesions[name], lesions.get(twin_name)
    rise = median(ours.inside) - ours.whole
    worst, least = max(ours.inside), min(ours.at_transitions)
    apart = difference_of_errors(least, worst, images)
    tau_deleted, p_deleted = trend(*_flat(ours.deleted))
    tau_order, p_order = trend([tau for tau, _ in ours.reordered], [error for _, error in ours.reordered])
    twin_rise = None if twin is None else median(twin.single) - twin.whole
    draws = len(ours.deleted[0][1])
    checks = [
        Check(
            "deleting one block inside a stage barely matters",
            f"median error {median(ours.inside):.1f} % after, {ours.whole:.1f} % before: {rise:+.1f} points"
            + ("" if twin_rise is None else f"; {twin_name} {twin_rise:+.1f} points"),
            "a tenth of the twin's rise at most",
            "not decided" if twin_rise is None else decided(rise <= twin_rise / 10),
        ),
        Check(
            "deleting a block where the resolution changes is worse than deleting any other",
            f"{', '.join(f'{error:.1f} %' for error in ours.at_transitions)}; worst inside a stage {worst:.1f} %: the lesser "
            f"of the first is {apart} points above",
            "each above the worst inside",
            judge(apart.low, apart.high, 0),
        ),
        Check(
            "the error rises with the number deleted",
            f"{_series(ours.deleted)} ({draws} draws each); Kendall's tau {tau_deleted:.2f}, p = {p_deleted:.1g}",
            f"tau above 0, p < {SURE}",
            decided(tau_deleted > 0 and p_deleted < SURE),
        ),
        Check(
            "the error rises as blocks leave their order",
            f"Kendall's tau of (order's tau, error) {tau_order:.2f}, p = {p_order:.1g}, {len(ours.reordered)} orders",
            f"below 0, p < {SURE}",
            decided(tau_order < 0 and p_order < SURE),
        ),
    ]
    if twin is not None:
        text = f"median {median(twin.single):.1f} % (guessing: {CHANCE:.0f} %)"
        checks.append(Check(f"deleting one block of {twin_name} is fatal", text, "80 % or more", decided(median(twin.single) >= 80)))
    return Claim(
        f"Lesions of {name}, {images:,} images",
        "Veit et al., arXiv 1605.06431, sections 4.1 to 4.3",
        "no noticeable effect but at the transitions; error rises smoothly with blocks deleted and with reordering; VGG drops to chance",
        tuple(checks),
        name,
    )


def _flat(points: Sequence[tuple[int, list[float]]]) -> tuple[list[float], list[float]]:
    return [k for k, errors in points for _ in errors], [error for _, errors in points for error in errors]


def _series(points: Sequence[tuple[int, list[float]]]) -> str:
    return ", ".join(f"{k}: {mean(errors):.0f} %" for k, errors in points)


def response_claim(study: Study) -> Claim:
    """Residual functions are small, and smaller in deeper networks."""
    depths = sorted((int(name.removeprefix("resnet")), found.mean) for name, found in study.responses.items() if name.startswith("resnet"))
    checks = []
    for depth, ours in depths:
        if twin := study.responses.get(f"plain{depth}"):
            text = f"{ours:.3f} against {twin.mean:.3f}, mean over layers"
            checks.append(Check(f"resnet{depth}'s layers respond less than plain{depth}'s", text, "less", decided(ours < twin.mean)))
    falling = all(after[1] < before[1] for before, after in pairwise(depths))
    text = ", ".join(f"resnet{depth} {ours:.3f}" for depth, ours in depths)
    verdict = decided(falling) if len(depths) > 1 else "not decided"
    checks.append(Check("the deeper the network, the smaller its responses", text, "falling at every step", verdict))
    return Claim(
        "Layer responses",
        "He et al., arXiv 1512.03385, section 4.2, Fig. 7",
        "residual networks have generally smaller responses than plain ones; deeper ones have smaller magnitudes (20, 56, 110)",
        tuple(checks),
    )


def landscape_claim(name: str, twin_name: str, planes: Sequence[dict[str, Landscape]]) -> Claim:
    """The residual network's loss surface is smoother and wider; over planes, each with both networks."""
    rough = [(plane[name].roughness(), plane[twin_name].roughness()) for plane in planes]
    wide = [(plane[name].basin(), plane[twin_name].basin()) for plane in planes]
    return Claim(
        "Loss landscape",
        "Li et al., arXiv 1712.09913, section 5",
        "without shortcuts, deep networks' surfaces become chaotic; with them a wide convex region stays",
        (
            _over_planes("less of the plane is non-convex with shortcuts", name, twin_name, rough, above=False),
            _over_planes("more of the plane has a loss below 2 nats with shortcuts", name, twin_name, wide, above=True),
        ),
    )


def _over_planes(part: str, name: str, twin_name: str, shares: Sequence[tuple[float, float]], *, above: bool) -> Check:
    ours, twins = (", ".join(f"{100 * share:.0f}" for share in column) for column in zip(*shares, strict=True))
    difference = mean_interval([100 * (one - other) for one, other in shares])
    text = f"{ours} % of {name}'s plane, {twins} % of {twin_name}'s"
    if len(shares) < 2:
        return Check(part, f"{text}; one plane, no interval", "more" if above else "less", decided((difference.value > 0) == above))
    verdict = judge(difference.low, difference.high, 0, above=above)
    return Check(part, f"{text}: {difference} points over {len(shares)} planes", "more" if above else "less", verdict)


def study_claims(study: Study) -> list[Claim]:
    """Every claim that a study has measurements for."""
    return [gradient_claim(study), correlation_claim(study), path_claim(study), *lesion_claims(study), response_claim(study)]
