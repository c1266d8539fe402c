"""What certificates let pass, where their files hold, and the checkpoints that were tried: tables of the results of that measurement."""

import json
from pathlib import Path
from typing import Any

from deploy.markdown import markdown

RESULTS = Path(__file__).parents[1] / "docs" / "results" / "2026-11-29-certificates"


def load(name: str) -> Any:
    """A file of results."""
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def percent(share: float) -> str:
    """A probability; what is small is not zero."""
    return f"{100 * share:.1f} %" if share >= 1e-3 or share == 0 else "< 0.1 %"


def power() -> str:
    """How often a network of a true agreement is certified, by the number of images; the last row says how many it takes."""
    found = load("power.json")["certified"]
    rows = []
    for chance in found["chances"]:
        allowed = ["refused" if most < 0 else f"{most:,}" for most in (chance["flips"], chance["lost"])]
        rows.append([f"{chance['images']:,}", *allowed, *(percent(share) for share in chance["passes"])])
    needed = ["never" if one["images"] is None else f"{one['images']:,}" for one in found["needed"]]
    rows.append(["*to pass 9 times in 10*", "", "", *needed])
    return markdown(("images", "flips allowed", "right answers lost", *(f"{100 * one:g} %" for one in found["agreements"])), rows)


def replay_power() -> str:
    """How often a real network that computes worse than it was certified is let pass."""
    found = load("power.json")["replayed"]
    header = ("what is wrong", "decided by", "images", *(f"{100 * one:g} %" for one in found["agreements"]))
    rows = [
        [row["wrong"], row["decided_by"], str(row["images"]), *(f"{100 * one:.2f} %" for one in row["passes"])] for row in found["rows"]
    ]
    return markdown(header, rows, left=2)


def agreement_bounds() -> str:
    """What each rule for the agreement lets pass."""
    found = load("bounds.json")
    rows = [[f"{row['images']:,}", row["rule"], *(percent(share) for share in row["passes"])] for row in found["agreement"]]
    return markdown(("images", "rule", *(f"{100 * one:g} %" for one in found["agreements"])), rows, left=2)


def accuracy_bounds() -> str:
    """What each rule for the accuracy lets pass."""
    found = load("bounds.json")
    titles = [f"{100 * (gained - lost):+.1f} ({100 * lost:g} lost, {100 * gained:g} gained)" for lost, gained in found["changes"]]
    rows = [[f"{row['images']:,}", row["rule"], *(percent(share) for share in row["passes"])] for row in found["accuracy"]]
    return markdown(("images", "rule", *titles), rows, left=2)


def checkpoints() -> str:
    """Every case that was tried, by origin."""
    rows = [
        [
            row["origin"],
            row["case"],
            *(text for way in ("raw", "encoded") for text in (f"{100 * row[way]['agreement']:g} %", f"{row[way]['error']:.0e}")),
        ]
        for row in load("checkpoints.json")
    ]
    header = ("origin", "case", "pixels: top-1 agreement", "largest error", "encoded: top-1 agreement", "largest error")
    return markdown(header, rows, left=2)


TABLES = {
    "power": power,
    "replay-power": replay_power,
    "agreement-bounds": agreement_bounds,
    "accuracy-bounds": accuracy_bounds,
    "checkpoints": checkpoints,
}
