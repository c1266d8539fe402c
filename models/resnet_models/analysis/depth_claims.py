"""What is claimed of depth, tested on networks evaluated on the same images (He et al., arXiv 1512.03385, section 4.2)."""

from collections.abc import Sequence
from itertools import pairwise

from resnet_models.analysis.checks import Check, Claim, decided, judge
from resnet_models.degradation import Run
from resnet_models.errors import DataError
from resnet_models.evaluation import EvaluationSet
from resnet_models.statistics import compare_paired

THESE = "Differences with numbers of images are McNemar's test: about these networks on the same images, not about other seeds"


def degradation_claim(test: EvaluationSet, train: EvaluationSet | None, runs: Sequence[Run]) -> Claim:
    """Deeper plain networks are worse on what they were trained on; deeper residual ones are better."""
    curves = {run.name: run.train_error for run in runs}
    plain, residual = ("plain56", "plain20"), ("resnet20", "resnet56")
    checks = [
        _seen(f"{plain[0]}'s training error is above {plain[1]}'s, as seen (augmented, mean of the last three epochs)", curves, plain),
        _seen(f"{residual[0]}'s training error is above {residual[1]}'s, as seen", curves, residual),
    ]
    if train is not None:
        checks += [paired_check(f"{a}'s training error is above {b}'s, un-augmented, eval mode", train, a, b) for a, b in (plain, residual)]
    checks += [paired_check(f"{a}'s test error is above {b}'s", test, a, b) for a, b in (plain, residual)]
    return Claim(
        "Degradation",
        "He et al., arXiv 1512.03385, section 4.2, Fig. 6",
        "the 56-layer plain network has higher training error than the 20-layer one, and so test error; residual networks turn this around",
        tuple(checks),
    )


def depth_claim(test: EvaluationSet) -> Claim:
    """Each step of depth lowers the residual networks' test error, and shortcuts help at every depth."""
    networks = {evaluation.network for evaluation in test.evaluations}  # one counted with mirror images, too, has two evaluations
    names = sorted((one for one in networks if one.startswith("resnet")), key=lambda name: int(name.removeprefix("resnet")))
    checks = [paired_check(f"{shallow}'s test error is above {deep}'s", test, shallow, deep) for shallow, deep in pairwise(names)]
    checks += [
        paired_check(f"{plain}'s test error is above {plain.replace('plain', 'resnet')}'s", test, plain, plain.replace("plain", "resnet"))
        for plain in sorted(one for one in networks if one.startswith("plain"))
    ]
    return Claim(
        "Depth helps",
        "He et al., arXiv 1512.03385, Table 6",
        "8.75, 7.51, 7.17, 6.97 and 6.43 % with 20, 32, 44, 56 and 110 layers; 7.93 % with 1202: deeper is not always better",
        tuple(checks),
    )


def _seen(part: str, curves: dict[str, float], pair: tuple[str, str]) -> Check:
    """Of the errors of the training curves, which have no interval."""
    try:
        above, below = (curves[name] for name in pair)
    except KeyError as error:
        raise DataError(f"curves: they lack {error}") from None
    return Check(part, f"{above:.2f} % against {below:.2f} %; one seed, no interval", "above", decided(above > below))


def paired_check(part: str, found: EvaluationSet, above: str, below: str) -> Check:
    """Whether the first network is wrong more often than the second on the same images."""
    first, second = found.of(above), found.of(below)
    paired = compare_paired(first.wrong_images(), second.wrong_images())
    text = (
        f"{first.error:.2f} % against {second.error:.2f} %: {paired.difference} points; only the first wrong {paired.only_first} times, "
        f"only the second {paired.only_second}, p = {paired.p:.1g} ({first.images:,} images)"
    )
    return Check(part, text, "difference above 0", judge(paired.difference.low, paired.difference.high, 0))
