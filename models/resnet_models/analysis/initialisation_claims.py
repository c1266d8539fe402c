"""What is claimed of networks before any training, tested on a measured initialisation."""

import math
from statistics import mean

from resnet_models.analysis.checks import Check, Claim, decided, judge
from resnet_models.analysis.initialisation import FAMILIES, BranchProfile, Initialisation
from resnet_models.statistics import Interval, mean_interval, trend

UNCHANGED = 1e-5
SURE = 0.05


def initialisation_claims(found: Initialisation) -> list[Claim]:
    """Of normalisation and of pre-activation."""
    return [normalisation_claim(found), preactivation_claim(found), share_claim(found)]


def normalisation_claim(found: Initialisation) -> Claim:
    """Normalised branches matter less the deeper they are; others do not, and activations explode."""
    return Claim(
        "Batch normalisation's role",
        "De and Smith, arXiv 2002.10444, section 3",
        "it scales the branch down beside the skip path by about the root of the depth, so that deep networks begin near the identity; "
        "without it branches stay as large as the skip path and both grow exponentially",
        tuple(check for family in FAMILIES for check in _family_checks(found, family)),
    )


def _family_checks(found: Initialisation, family: str) -> list[Check]:
    depths = sorted(int(name.removeprefix(family)) for name in found.branches if name.removeprefix(family).isdigit())
    names = [f"{family}{depth}" for depth in depths]
    first, deepest = names[0], names[-1]
    shares = {name: mean_interval([one.mean_share for one in found.branches[name]]) for name in names}
    bare = mean_interval([one.mean_share for one in found.bare[deepest]])
    with_norm, without = _growth(found.branches[deepest]), _growth(found.bare[deepest])
    tau, p = trend(*_last_stage(found.branches[deepest]))
    text = ", ".join(f"{name} {share}" for name, share in shares.items())
    return [
        Check(
            f"the deeper the network, the smaller the branches' part of the variance (mean over blocks), {family}N",
            text,
            f"less in {deepest} than in {first}",
            judge(shares[first].low - shares[deepest].high, shares[first].high - shares[deepest].low, 0),
        ),
        Check(
            f"inside a stage of {deepest} each block's branch matters less than the one before",
            f"Kendall's tau of block and part {tau:.2f}, p = {p:.1g}",
            f"below 0, p < {SURE}",
            decided(tau < 0 and p < SURE),
        ),
        Check(
            f"without batch normalisation the branches of {deepest} keep more",
            f"{bare} without, {shares[deepest]} with",
            "more without",
            judge(bare.low - shares[deepest].high, bare.high - shares[deepest].low, 0),
        ),
        Check(
            f"without batch normalisation the skip path of {deepest} grows more, last block over first",
            f"10^{without} without, 10^{with_norm} with",
            "more without",
            judge(without.low - with_norm.high, without.high - with_norm.low, 0),
        ),
    ]


def _growth(profiles: list[BranchProfile]) -> Interval:
    return mean_interval([math.log10(one.skips[-1] / one.skips[0]) for one in profiles])


def _last_stage(profiles: list[BranchProfile]) -> tuple[list[float], list[float]]:
    """Block numbers inside the last of three stages, and shares, of all seeds."""
    count = len(profiles[0].branches) // 3
    return [float(i) for _ in profiles for i in range(count)], [share for one in profiles for share in one.shares[-count:]]


def preactivation_claim(found: Initialisation) -> Claim:
    """Nothing after the addition: the gradient passes as it is."""
    ours, theirs = (f"{family}{found.depth}" for family in FAMILIES)
    passed = {name: mean_interval([one.arrivals[0] for one in found.shortcuts[name]]) for name in (ours, theirs)}
    off = max(abs(value - 1) for one in found.shortcuts[theirs] for value in one.arrivals)
    blocks = len(found.shortcuts[ours][0].arrivals)
    return Claim(
        "Pre-activation",
        "He et al., arXiv 1603.05027, section 2, eq. 5",
        "with nothing after the addition the gradient at a deeper block arrives at every shallower one as it is, plus what branches bring; "
        "a ReLU after the addition masks it",
        (
            Check(
                f"in {theirs} it arrives by shortcuts alone, past {blocks} blocks of the last stage, unchanged",
                f"{passed[theirs].value:.6f} of its norm; at no block further than {off:.1g} from 1",
                f"within {UNCHANGED:g} of 1",
                decided(off < UNCHANGED),
            ),
            Check(
                f"in {ours} it does not",
                f"{passed[ours]} of its norm",
                "below 1",
                judge(passed[ours].low, passed[ours].high, 1, above=False),
            ),
        ),
    )


def share_claim(found: Initialisation) -> Claim:
    """What eq. 5 is often taken for."""
    ours, theirs = (f"{family}{found.depth}" for family in FAMILIES)
    share = {name: mean_interval([mean(one.shares) for one in found.shortcuts[name]]) for name in (ours, theirs)}
    return Claim(
        "Pre-activation, told further",
        "not in the paper",
        "eq. 5 says that what shortcuts bring is whole, not that branches bring little",
        (
            Check(
                f"shortcuts bring a larger share of the whole gradient in {theirs} than in {ours}, mean over blocks",
                f"{share[theirs]} against {share[ours]}",
                "more",
                judge(share[theirs].low - share[ours].high, share[theirs].high - share[ours].low, 0),
            ),
        ),
    )
