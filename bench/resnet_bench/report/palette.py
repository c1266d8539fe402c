"""Colours that hold on a light and on a dark page.

Plots are drawn in stand-in colours, which become CSS variables in the SVG; the page gives the variables their values, one set for
light and one for dark. Models take steps of a sequential scale (matplotlib's plasma, which stays ordered without colour vision),
as depth is ordered; nothing is told by colour alone, since every mark is labelled or has its own shape.
"""

import re

from matplotlib import colormaps
from matplotlib.colors import to_hex

INK, QUIET, BACK = "#000001", "#000002", "#000003"
PARTS = ("#000011", "#000012", "#000013")
MOST_SERIES, MOST_STEPS = 12, 10
SERIES = tuple(f"#0001{index:02x}" for index in range(MOST_SERIES))
STEPS = tuple(f"#0002{index:02x}" for index in range(MOST_STEPS))
MARKERS = "osD^vPX*<>hd"

NAMES = {
    INK: "ink",
    QUIET: "quiet",
    BACK: "back",
    **{colour: f"part{index}" for index, colour in enumerate(PARTS)},
    **{colour: f"series{index}" for index, colour in enumerate(SERIES)},
    **{colour: f"step{index}" for index, colour in enumerate(STEPS)},
}

# ink, quiet, back, and three parts (Okabe and Ito's blue, orange and green, darkened or lightened to 3:1 against the page)
LIGHT = ("#1a1c1f", "#c9ced6", "#ffffff", "#0072b2", "#c65a00", "#00805a")
DARK = ("#e8eaed", "#4a5058", "#15181c", "#56b4e9", "#f0a030", "#35c79a")
LIGHT_RANGE, DARK_RANGE = (0.0, 0.65), (0.45, 0.97)
LIGHT_STEPS, DARK_STEPS = (0.3, 1.0), (0.9, 0.2)  # of the scale "Blues": few rows stand back, many stand out


def variables(models: int, dark: bool) -> str:
    """CSS declarations for a page with so many models."""
    fixed = DARK if dark else LIGHT
    low, high = DARK_RANGE if dark else LIGHT_RANGE
    values = dict(zip((INK, QUIET, BACK, *PARTS), fixed, strict=True))
    values.update({colour: _shade("plasma", low, high, index, models) for index, colour in enumerate(SERIES)})
    first, last = DARK_STEPS if dark else LIGHT_STEPS
    values.update({colour: _shade("Blues", first, last, index, MOST_STEPS) for index, colour in enumerate(STEPS)})
    return " ".join(f"--{NAMES[colour]}: {value};" for colour, value in values.items())


def _shade(scale: str, low: float, high: float, index: int, count: int) -> str:
    share = min(1.0, index / max(1, count - 1))
    return to_hex(colormaps[scale](low + share * (high - low)))


def themed(svg: str) -> str:
    """The SVG with stand-ins replaced by variables."""
    return re.sub("|".join(NAMES), lambda match: f"var(--{NAMES[match[0]]})", svg)
