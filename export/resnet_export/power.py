"""How often a network that is worse than a policy asks would be certified: exactly, from the policy's own decision."""

import bisect
import itertools
import math
from dataclasses import asdict, dataclass

from resnet_proto.certificate import POLICIES
from resnet_proto.intervals import binomial_cdf, paired_interval, share_interval
from resnet_proto.manifest_pb2 import Policy
from rich.table import Table

IMAGES = (100, 368, 765, 1_000, 5_000, 10_000, 50_000)
AGREEMENTS = (0.999, 0.997, 0.995, 0.99, 0.988, 0.98, 0.95)
USUALLY = 0.9
MOST_IMAGES = 1 << 17


@dataclass(frozen=True)
class Chance:
    """What `images` allow: flips (-1: certify nothing), images lost and none gained (-1: no accuracy can be shown), and the chance to pass.

    `passes` has a probability for each of AGREEMENTS, of a network with that true agreement, on images without labels.
    """

    images: int
    flips: int
    lost: int
    passes: tuple[float, ...]


@dataclass(frozen=True)
class Needed:
    """With how many images a network of a true agreement passes in nine of ten cases; None: never, or with more than MOST_IMAGES."""

    agreement: float
    images: int | None


@dataclass(frozen=True)
class Power:
    """Of one policy."""

    policy: str
    agreements: tuple[float, ...]
    chances: tuple[Chance, ...]
    needed: tuple[Needed, ...]

    def as_object(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def shows_agreement(images: int, flips: int, policy: Policy) -> bool:
    """Whether so many flips leave the agreement shown."""
    return share_interval(images - flips, images, policy.confidence)[0] >= policy.min_top1_agreement


def most_flips(images: int, policy: Policy) -> int:
    """The most images with another answer that still show the agreement; -1 where none would."""
    if images < policy.min_images:
        return -1
    possible = range(int((1 - policy.min_top1_agreement) * images) + 1)  # the bound lies below what was seen
    return bisect.bisect(possible, False, key=lambda flips: not shows_agreement(images, flips, policy)) - 1


def most_lost(images: int, policy: Policy) -> int:
    """The most images that may lose their right answer where none gains one; -1 where not even none shows the accuracy."""
    if images < policy.min_images:
        return -1
    most, confidence = policy.max_accuracy_loss, policy.confidence
    possible = range(int(most / 100 * images) + 1)
    return bisect.bisect(possible, False, key=lambda lost: 100 * paired_interval(0, lost, images, confidence)[0] < -most) - 1


def passes(images: int, agreement: float, policy: Policy) -> float:
    """Probability that a network of a true agreement is certified on so many images without labels."""
    flips = most_flips(images, policy)
    return binomial_cdf(flips, images, 1 - agreement) if flips >= 0 else 0.0


def images_needed(agreement: float, policy: Policy) -> int | None:
    """The fewest images with which a network of a true agreement passes in nine of ten cases."""
    if agreement <= policy.min_top1_agreement:
        return None
    step = math.ceil(2 / (1 - policy.min_top1_agreement))  # one flip more is allowed within so many images
    images = policy.min_images
    for flips in itertools.count():
        images += bisect.bisect_left(range(step), True, key=lambda more: shows_agreement(images + more, flips, policy))
        if binomial_cdf(flips, images, 1 - agreement) >= USUALLY:
            return images
        if images > MOST_IMAGES:
            break
    return None


def measure_power(name: str = "int8") -> Power:
    """Of a policy with a confidence."""
    policy = POLICIES[name]
    chances = tuple(
        Chance(
            images,
            most_flips(images, policy),
            most_lost(images, policy),
            tuple(round(passes(images, agreement, policy), 6) for agreement in AGREEMENTS),
        )
        for images in IMAGES
    )
    return Power(name, AGREEMENTS, chances, tuple(Needed(agreement, images_needed(agreement, policy)) for agreement in AGREEMENTS))


def header(power: Power) -> list[str]:
    """Titles of the table's columns."""
    return ["images", "flips allowed", "right answers lost", *(f"{agreement:.1%}" for agreement in power.agreements)]


def cells(power: Power) -> list[list[str]]:
    """The table's rows, the last with the images needed."""
    rows = []
    for chance in power.chances:
        allowed = ["refused" if most < 0 else f"{most:,}" for most in (chance.flips, chance.lost)]
        rows.append([f"{chance.images:,}", *allowed, *(shown(share) if chance.flips >= 0 else "0" for share in chance.passes)])
    needed = [f"{one.images:,}" if one.images is not None else "never" if one.agreement <= 0.99 else "> 131,072" for one in power.needed]
    return [*rows, ["images for 9 in 10", "", "", *needed]]


def shown(share: float) -> str:
    """A probability; what is below a hundredth of a percent is not zero."""
    return f"{share:.2%}" if share >= 1e-4 or share == 0 else "< 0.01%"


def power_table(power: Power) -> Table:
    """For people."""
    least = POLICIES[power.policy].min_top1_agreement
    table = Table(title=f"passes policy {power.policy} (agreement {least:.0%}) at a true agreement of", title_justify="left")
    for column in header(power):
        table.add_column(column, justify="right")
    for row in cells(power):
        table.add_row(*row)
    return table
