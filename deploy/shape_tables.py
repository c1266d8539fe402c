"""Tables of the pages that tell what each way to two servers costs: placed by Ray, through Envoy, through Serve's proxy."""

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from deploy.markdown import markdown

SHAPES = Path(__file__).parents[1] / "docs" / "results" / "2026-11-29-shapes" / "results.json"


def ranged(values: Iterable[float], digits: int) -> str:
    """The median with the least and the most: a few rounds, of which one may lie far off."""
    found = list(values)
    return f"{statistics.median(found):,.{digits}f} ({min(found):,.{digits}f} to {max(found):,.{digits}f})"


def shapes() -> str:
    """Images a second of two servers called by themselves, and the share of it that each way to them leaves, round by round."""
    rounds: dict[tuple[str, int, int], dict[str, dict[int, float]]] = {}
    for one in json.loads(SHAPES.read_text(encoding="utf-8"))["measured"]:
        work = rounds.setdefault((one["network"], one["size"], one["rows"]), {})
        work.setdefault(one["shape"], {})[one["round"]] = one["images_per_second"]
    rows = []
    for (network, size, images), found in rounds.items():
        alone = found["alone"]
        shares = [ranged((rate / alone[number] for number, rate in found[shape].items()), 2) for shape in ("placed", "envoy", "proxied")]
        rows.append([f"{network}, {size}x{size}", str(images), ranged(alone.values(), 0), *shares])
    return markdown(("network, input", "rows a call", "alone, img/s", "placed by Ray", "through Envoy", "through Serve's proxy"), rows)


def removals() -> str:
    """How long a node of two was missed, and what callers saw."""
    found: dict[str, list[Any]] = {}
    for one in json.loads(SHAPES.read_text(encoding="utf-8"))["removals"]:
        found.setdefault(one["shape"], []).append(one)
    rows = [
        [
            {"placed": "placed by Ray", "proxied": "through Serve's proxy"}[shape],
            ", ".join(f"{one['seconds']:.1f}" for one in ones),
            f"{sum(one['answered'] for one in ones):,}",
        ]
        for shape, ones in found.items()
    ]
    return markdown(("", "seconds until two served again", "calls answered by then"), rows)


TABLES: dict[str, Callable[[], str]] = {"shapes": shapes, "removals": removals}
