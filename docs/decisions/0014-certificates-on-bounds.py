"""What a rule of certification lets pass: `python docs/decisions/0014-certificates-on-bounds.py FILE` writes the exact shares as JSON.

Agreement: images flip independently at a true rate. Accuracy: images lose or gain the right answer at true rates (a trinomial). A rule
that refuses a count refuses any larger one, so that each share is a sum up to the largest count that passes.
"""

import bisect
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

from resnet_proto.intervals import binomial_cdf, paired_interval, share_interval

CONFIDENCE, LEAST, MOST_LOST = 0.95, 0.99, 0.005
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
IMAGES = (368, 1_000, 10_000)
AGREEMENTS = (0.98, 0.985, 0.988, 0.99, 0.995, 0.997, 0.999)
IMAGES_WITH_LABELS = (1_000, 10_000)
CHANGES = ((0.012, 0.004), (0.009, 0.003), (0.007, 0.002), (0.004, 0.003), (0.0035, 0.0035), (0.001, 0.001))
"""True shares of images that lose and that gain the right answer: a loss of 0.8, 0.6, 0.5, 0.1, 0 and 0 points."""


def wald(flips: int, images: int) -> float:
    """The normal interval's lower end."""
    share = 1 - flips / images
    return share - Z * math.sqrt(share * (1 - share) / images)


def wilson(flips: int, images: int) -> float:
    """The score interval's lower end."""
    share, square = 1 - flips / images, Z * Z / images
    return (share + square / 2 - Z * math.sqrt(share * (1 - share) / images + square / images / 4)) / (1 + square)


AGREEMENT_RULES: dict[str, Callable[[int, int], bool]] = {
    "the figure itself": lambda flips, images: 1 - flips / images >= LEAST,
    "Wald's interval": lambda flips, images: wald(flips, images) >= LEAST,
    "Wilson's interval": lambda flips, images: wilson(flips, images) >= LEAST,
    "Clopper and Pearson's": lambda flips, images: share_interval(images - flips, images, CONFIDENCE)[0] >= LEAST,
}


def wald_change(lost: int, gained: int, images: int) -> float:
    """The normal interval's lower end of the change of accuracy, in pairs."""
    change = (gained - lost) / images
    return change - Z * math.sqrt(max(0.0, (gained + lost) / images - change * change) / images)


ACCURACY_RULES: dict[str, Callable[[int, int, int], bool]] = {
    "the figure itself": lambda lost, gained, images: (lost - gained) / images <= MOST_LOST,
    "Wald's interval": lambda lost, gained, images: wald_change(lost, gained, images) >= -MOST_LOST,
    "Tango's": lambda lost, gained, images: paired_interval(gained, lost, images, CONFIDENCE)[0] >= -MOST_LOST,
}


def most(passes: Callable[[int], bool], limit: int) -> int:
    """The largest count that passes; -1 if none does."""
    return bisect.bisect(range(limit + 1), False, key=lambda count: not passes(count)) - 1


def agreement_passes(rule: str, images: int, agreement: float) -> float:
    """Probability to be certified."""
    count = most(lambda flips: AGREEMENT_RULES[rule](flips, images), images // 20)
    return binomial_cdf(count, images, 1 - agreement) if count >= 0 else 0.0


def binomial(count: int, trials: int, share: float) -> float:
    """P(X = count)."""
    logs = math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
    return math.exp(logs + count * math.log(share) + (trials - count) * math.log1p(-share))


def accuracy_passes(rule: str, images: int, lost: float, gained: float) -> float:
    """Probability to be certified: over how many gain, of those that lose given that."""
    total = 0.0
    for count in range(math.ceil(images * gained + 9 * math.sqrt(images * gained)) + 9):
        allowed = most(lambda losers: ACCURACY_RULES[rule](losers, count, images), images // 20)  # noqa: B023  # called at once
        if allowed >= 0:
            total += binomial(count, images, gained) * binomial_cdf(allowed, images - count, lost / (1 - gained))
    return total


def main(path: Path) -> None:
    """Write every share."""
    agreement = [
        {"rule": rule, "images": images, "passes": [round(agreement_passes(rule, images, true), 6) for true in AGREEMENTS]}
        for images in IMAGES
        for rule in AGREEMENT_RULES
    ]
    accuracy = [
        {"rule": rule, "images": images, "passes": [round(accuracy_passes(rule, images, *change), 6) for change in CHANGES]}
        for images in IMAGES_WITH_LABELS
        for rule in ACCURACY_RULES
    ]
    found = {"agreements": AGREEMENTS, "agreement": agreement, "changes": CHANGES, "accuracy": accuracy}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
