"""Training recipes: the paper's (arXiv 1512.03385, section 4.2) and a short one-cycle schedule.

A recipe is data: an optimiser's constants and a learning rate for every step, so that a resumed run
needs nothing but the step number.
"""

from collections.abc import Callable
from dataclasses import dataclass

from resnet_models.errors import ResnetModelsError
from resnet_models.variants import Variant

PAPER_STEPS = 64_000
PAPER_DROPS = (32_000, 48_000)
WARM_UP_STEPS = 400
WARM_UP_DEPTH = 110


@dataclass(frozen=True)
class Recipe:
    """SGD constants and `rate(step, steps) -> learning rate`; `epochs` is the default length."""

    name: str
    epochs: int
    batch: int
    momentum: float
    nesterov: bool
    weight_decay: float
    label_smoothing: float
    rate: Callable[[int, int], float]


def paper_rate(step: int, steps: int) -> float:
    """0.1, divided by 10 at 32k and at 48k of 64k iterations; a shorter run keeps the proportions."""
    position = step / steps * PAPER_STEPS
    return 0.1 * 0.1 ** sum(position >= drop for drop in PAPER_DROPS)


def warmed_paper_rate(step: int, steps: int) -> float:
    """As `paper_rate`, after 0.01 for the first 400 iterations (the paper's warm-up for ResNet-110)."""
    return 0.01 if step < WARM_UP_STEPS else paper_rate(step, steps)


def one_cycle_rate(step: int, steps: int, peak: float = 0.2, warm_up: float = 0.2) -> float:
    """Linear from 0 to `peak` over the first fifth of the steps, then linear to 0 (after Smith, arXiv 1708.07120)."""
    position = (step + 1) / steps
    return peak * (position / warm_up if position < warm_up else (1 - position) / (1 - warm_up))


def find_recipe(name: str, variant: Variant) -> Recipe:
    """Return recipe `paper` or `short` for a variant; raise ResnetModelsError for another name."""
    if name == "paper":
        rate = warmed_paper_rate if variant.depth >= WARM_UP_DEPTH else paper_rate
        return Recipe("paper", 164, 128, 0.9, False, 1e-4, 0.0, rate)
    if name == "short":
        return Recipe("short", 40, 128, 0.9, True, 5e-4, 0.0, one_cycle_rate)
    raise ResnetModelsError(f"recipe: '{name}' is unknown; expected paper or short")
