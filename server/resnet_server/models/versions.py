"""Which versions of a model are served."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

EXPECTED = "latest, latest-2 for the two highest, all, or numbers such as 1,3"


@dataclass(frozen=True)
class VersionPolicy:
    """The highest `latest` versions; where that is 0, those `named`; where nothing is, all."""

    latest: int = 0
    named: tuple[str, ...] = ()

    def choose(self, there: Sequence[str]) -> list[str]:
        """Of the versions that are there, those to serve, the lowest first; named ones are chosen whether they are there or not."""
        if self.named:
            return sorted(self.named, key=int)
        ordered = sorted(there, key=int)
        return ordered[-self.latest :] if self.latest else ordered


def parse_versions(text: str) -> VersionPolicy:
    """Read a policy as options and `serving.toml` write it; raises ValueError for anything else."""
    wanted = text.strip()
    if wanted == "latest":
        return VersionPolicy(latest=1)
    if wanted.startswith("latest-") and is_version(wanted.removeprefix("latest-")):
        return VersionPolicy(latest=int(wanted.removeprefix("latest-")))
    if wanted == "all":
        return VersionPolicy()
    named = tuple(part.strip() for part in text.split(","))
    if all(map(is_version, named)) and len(set(named)) == len(named):
        return VersionPolicy(named=named)
    raise ValueError(f"'{text[:100]}'; expected {EXPECTED}")


def is_version(name: str) -> bool:
    """A positive decimal number of at most 18 digits, without leading zeros."""
    return name.isascii() and name.isdecimal() and not name.startswith("0") and len(name) <= 18


@dataclass(frozen=True)
class Weights:
    """The shares of versions in the calls that name none, such as 3 in nine of ten and 4 in one of ten."""

    shares: tuple[tuple[str, float], ...]

    def draws(self) -> list[str]:
        """Each version as often as its share says, by itself: of 1 always, of 0.1 one time in ten."""
        return [version for version, share in self.shares if random.random() < share]  # noqa: S311  # no secret

    def draw(self, serving: Sequence[str]) -> str:
        """One of the versions that serve; empty where none of them has a share."""
        shares = [(version, share) for version, share in self.shares if share and version in serving]
        if not shares:
            return ""
        return random.choices([version for version, _ in shares], [share for _, share in shares])[0]  # noqa: S311  # no secret
