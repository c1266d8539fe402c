"""What is claimed of networks trained with several seeds: differences of means over seeds, with intervals over seeds."""

from collections.abc import Sequence
from itertools import pairwise

from resnet_models.analysis.checks import Check, Claim, decided, judge
from resnet_models.analysis.depth_claims import paired_check
from resnet_models.evaluation import Evaluation, EvaluationSet
from resnet_models.seeds import SeedSummary
from resnet_models.statistics import Paired, compare_paired, mean_difference

SURE = 0.05


def seed_claims(rows: Sequence[SeedSummary], test: EvaluationSet | None) -> list[Claim]:
    """Plain against residual at each depth that has both, and the shortcut options at each depth that has more than one."""
    options = [option_claim(rows, None, depth) for depth in depths_with_options([row.variant for row in rows])]
    return [*(claim for claim in [plain_claim(rows, test)] if claim.checks), *options]


def depths_with_options(names: Sequence[str]) -> list[int]:
    """The depths at which one of these networks has another shortcut than option A."""
    return sorted({int(name.removesuffix("_b").removesuffix("_c").removeprefix("resnet")) for name in names if name.endswith(("_b", "_c"))})


def plain_claim(rows: Sequence[SeedSummary], test: EvaluationSet | None) -> Claim:
    """The degradation's shallow end over seeds, and the same pair of networks on the same images for each seed."""
    known = {row.variant: row for row in rows}
    checks = []
    for name in sorted(name for name in known if name.startswith("plain")):
        twin = name.replace("plain", "resnet")
        if twin not in known:
            continue
        plain, residual = known[name], known[twin]
        checks.append(
            _over_seeds(f"{name}'s test error is above {twin}'s, over seeds", plain, residual, plain.test_errors, residual.test_errors)
        )
        checks.append(
            _over_seeds(
                f"{name}'s training error is above {twin}'s, un-augmented, over seeds",
                plain,
                residual,
                plain.train_errors,
                residual.train_errors,
            )
        )
        checks += _pairs(name, twin, test) if test is not None else []
    return Claim(
        "Over seeds",
        "He et al., arXiv 1512.03385, section 4.2",
        "single runs; of resnet110 five: 6.61 ± 0.16 %",
        tuple(checks),
    )


def _over_seeds(part: str, first: SeedSummary, second: SeedSummary, above: Sequence[float], below: Sequence[float]) -> Check:
    difference = mean_difference(above, below)
    text = f"{_listed(above)} against {_listed(below)}: {difference} points ({first.recipe}, {first.epochs} epochs)"
    return Check(part, text, "difference above 0", judge(difference.low, difference.high, 0))


def _listed(errors: Sequence[float]) -> str:
    return ", ".join(f"{error:.2f}" for error in errors) + " %"


def _pairs(above: str, below: str, test: EvaluationSet) -> list[Check]:
    by_seed = {name: {one.seed: one for one in test.evaluations if one.network == name and not one.flip} for name in (above, below)}
    seeds = sorted(seed for seed in by_seed[above].keys() & by_seed[below].keys() if seed is not None)
    if not seeds:
        return []
    found = [_paired(by_seed[above][seed], by_seed[below][seed]) for seed in seeds]
    sure = sum(one.p < SURE and one.difference.value > 0 for one in found)
    least = min(found, key=lambda one: one.difference.value)
    text = f"{sure} of {len(found)} pairs with p < {SURE}; least difference {least.difference} points, p = {least.p:.1g}"
    return [
        Check(
            f"the same on the same test images, for each seed (McNemar), {above} and {below}",
            text,
            "every pair",
            decided(sure == len(found)),
        )
    ]


def _paired(first: Evaluation, second: Evaluation) -> Paired:
    return compare_paired(first.wrong_images(), second.wrong_images())


def option_claim(rows: Sequence[SeedSummary], held: EvaluationSet | None, depth: int) -> Claim:
    """Options A, B, C and pre-activation at one depth, each against the next: over seeds, or in pairs on the images held out."""
    plain, b, c, v2 = (f"resnet{depth}", f"resnet{depth}_b", f"resnet{depth}_c", f"resnetv2_{depth}")
    summaries = {row.variant: row for row in rows}
    known = {one.network: one for one in reversed(held.evaluations)} if held is not None else summaries
    chain = [name for name in (plain, b, c) if name in known]
    pairs = [*pairwise(chain), *([(plain, v2)] if plain in known and v2 in known else [])]
    checks = []
    for above, below in pairs:
        part = f"{above}'s error is above {below}'s"
        if held is not None:
            checks.append(paired_check(f"{part}, images held out, one seed", held, above, below))
        else:
            one, other = summaries[above], summaries[below]
            checks.append(_over_seeds(part, one, other, one.test_errors, other.test_errors))
    return Claim(
        f"Shortcut options at depth {depth}",
        "He et al., arXiv 1512.03385, Table 3; arXiv 1603.05027, Table 2",
        "ImageNet, 34 layers: A 25.03, B 24.52, C 24.19 %: small differences, projections are not essential; "
        "pre-activation helps deep networks (110 and more layers)",
        tuple(checks),
    )
