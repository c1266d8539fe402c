"""Training recipes: the paper's (arXiv 1512.03385, section 4.2), a short one-cycle schedule, and what may be changed in them.

A recipe is data: an optimiser's constants and a learning rate for every step, so that a resumed run
needs nothing but the step number.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from resnet_models.errors import ResnetModelsError
from resnet_models.variants import Variant

PAPER_STEPS = 64_000
PAPER_DROPS = (32_000, 48_000)
WARM_UP_STEPS = 400
WARM_UP_DEPTH = 110


@dataclass(frozen=True)
class Changes:
    """What differs from a named recipe; None: as the recipe has it.

    `label_smoothing` after Szegedy et al. (arXiv 1512.00567, section 7); `ema`: decay a step of the averaged weights that are
    evaluated and saved; `whiten`: the first convolution starts as the whitening of its patches (Coates and Ng 2011);
    `schedule`: one-cycle, cosine or steps; `peak`: greatest learning rate; `batch`: images a step; `zero_gamma`: every residual branch
    starts at zero (Goyal et al., arXiv 1706.02677, section 5.1); `stochastic_depth`: the probability that the last block is dropped in
    a step, less for earlier ones (Huang et al., arXiv 1603.09382).
    """

    label_smoothing: float | None = None
    ema: float | None = None
    whiten: bool | None = None
    schedule: str | None = None
    peak: float | None = None
    batch: int | None = None
    zero_gamma: bool | None = None
    stochastic_depth: float | None = None

    def options(self) -> list[str]:
        """As words of the command line."""
        words = []
        for name in ("label_smoothing", "ema", "schedule", "peak", "batch", "stochastic_depth"):
            if (value := getattr(self, name)) is not None:
                words += [f"--{name.replace('_', '-')}", str(value)]
        return words + ["--whiten"] * bool(self.whiten) + ["--zero-gamma"] * bool(self.zero_gamma)


@dataclass(frozen=True)
class Recipe:
    """SGD constants and `rate(step, steps) -> learning rate`; `epochs` is the default length."""

    base: str
    epochs: int
    batch: int
    momentum: float
    nesterov: bool
    weight_decay: float
    label_smoothing: float
    rate: Callable[[int, int], float]
    ema: float = 0.0
    whiten: bool = False
    zero_gamma: bool = False
    stochastic_depth: float = 0.0
    changes: Changes = Changes()

    @property
    def name(self) -> str:
        """The named recipe, with what was changed in it: `short --ema 0.99`."""
        return " ".join([self.base, *self.changes.options()])

    def options(self) -> list[str]:
        """As words of the command line."""
        return ["--recipe", self.base, *self.changes.options()]


def paper_rate(step: int, steps: int, peak: float = 0.1) -> float:
    """`peak`, divided by 10 at 32k and at 48k of 64k iterations; a shorter run keeps the proportions."""
    position = step / steps * PAPER_STEPS
    return float(peak * 0.1 ** sum(position >= drop for drop in PAPER_DROPS))


def warmed_paper_rate(step: int, steps: int, peak: float = 0.1) -> float:
    """As `paper_rate`, after a tenth of it for the first 400 iterations (the paper's warm-up for ResNet-110)."""
    return peak / 10 if step < WARM_UP_STEPS else paper_rate(step, steps, peak)


def one_cycle_rate(step: int, steps: int, peak: float = 0.2, warm_up: float = 0.2) -> float:
    """Linear from 0 to `peak` over the first fifth of the steps, then linear to 0 (after Smith, arXiv 1708.07120)."""
    position = (step + 1) / steps
    return peak * (position / warm_up if position < warm_up else (1 - position) / (1 - warm_up))


def cosine_rate(step: int, steps: int, peak: float = 0.2, warm_up: float = 0.05) -> float:
    """Linear to `peak` over the first twentieth, then half a cosine to 0 (Loshchilov and Hutter, arXiv 1608.03983, one period)."""
    position = (step + 1) / steps
    if position < warm_up:
        return peak * position / warm_up
    return peak / 2 * (1 + math.cos(math.pi * (position - warm_up) / (1 - warm_up)))


def imagenet_rate(step: int, steps: int, peak: float = 0.1) -> float:
    """`peak`, divided by 10 after a third and after two thirds (90 epochs: torchvision's reference; the paper waits for plateaus)."""
    return float(peak * 0.1 ** int(3 * step / steps))


SCHEDULES: dict[str, Callable[[int, int, float], float]] = {"one-cycle": one_cycle_rate, "cosine": cosine_rate, "steps": paper_rate}


def find_recipe(name: str, variant: Variant, changes: Changes | None = None) -> Recipe:
    """Return recipe `paper`, `short` or `imagenet` for a variant, with `changes`; raise ResnetModelsError for another name or schedule."""
    if name == "paper":
        rate = warmed_paper_rate if variant.depth >= WARM_UP_DEPTH else paper_rate
        recipe, schedule, peak = Recipe("paper", 164, 128, 0.9, False, 1e-4, 0.0, rate), rate, 0.1
    elif name == "short":
        recipe, schedule, peak = Recipe("short", 40, 128, 0.9, True, 5e-4, 0.0, one_cycle_rate), one_cycle_rate, 0.2
    elif name == "imagenet":
        recipe, schedule, peak = Recipe("imagenet", 90, 256, 0.9, False, 1e-4, 0.0, imagenet_rate), imagenet_rate, 0.1
    else:
        raise ResnetModelsError(f"recipe: '{name}' is unknown; expected paper, short or imagenet")
    return changed(recipe, schedule, peak, changes) if changes and changes.options() else recipe


def changed(recipe: Recipe, schedule: Callable[[int, int, float], float], peak: float, changes: Changes) -> Recipe:
    """The recipe with `changes` made."""
    if changes.schedule is not None:
        if changes.schedule not in SCHEDULES:
            raise ResnetModelsError(f"schedule: '{changes.schedule[:40]}' is unknown; expected {', '.join(SCHEDULES)}")
        schedule = SCHEDULES[changes.schedule]
    greatest = peak if changes.peak is None else changes.peak
    return replace(
        recipe,
        rate=lambda step, steps: schedule(step, steps, greatest),
        label_smoothing=recipe.label_smoothing if changes.label_smoothing is None else changes.label_smoothing,
        ema=recipe.ema if changes.ema is None else changes.ema,
        whiten=bool(changes.whiten),
        batch=changes.batch or recipe.batch,
        zero_gamma=bool(changes.zero_gamma),
        stochastic_depth=changes.stochastic_depth or 0.0,
        changes=changes,
    )
