"""Claims in parts: each part has its measurement, its bound and its own verdict, computed from the numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["holds", "does not hold", "not decided"]
Overall = Literal["holds", "holds in part", "does not hold", "not decided"]


@dataclass(frozen=True)
class Check:
    """One testable part of a claim: what is said, what was measured (with interval where there is one), the bound, the verdict."""

    part: str
    measured: str
    bound: str
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """A claim, where it is made, what the source reports, its parts, and the network that it is about, where it is about one."""

    title: str
    source: str
    reported: str
    checks: tuple[Check, ...]
    about: str = ""

    @property
    def overall(self) -> Overall:
        """`holds` only if every part does."""
        verdicts = {check.verdict for check in self.checks}
        if verdicts == {"holds"}:
            return "holds"
        if "holds" not in verdicts:
            return "does not hold" if "does not hold" in verdicts else "not decided"
        return "holds in part"


def judge(low: float, high: float, bound: float, *, above: bool = True) -> Verdict:
    """Whether a value known to lie in [low, high] is above (or below) `bound`; not decided where the interval holds the bound."""
    if not above:
        low, high, bound = -high, -low, -bound
    if low > bound:
        return "holds"
    return "does not hold" if high < bound else "not decided"


def decided(holds: bool) -> Verdict:
    """Of a comparison of single numbers, which has no interval."""
    return "holds" if holds else "does not hold"


def counted(claims: Sequence[Claim]) -> str:
    """How many parts hold."""
    checks = [check for claim in claims for check in claim.checks]
    holding = sum(check.verdict == "holds" for check in checks)
    return f"{holding} of {len(checks)} parts hold"
