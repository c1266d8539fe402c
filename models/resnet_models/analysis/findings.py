"""What is claimed, what was measured, and whether they agree: computed from the numbers."""

from dataclasses import dataclass
from statistics import mean, median

from resnet_models.analysis.study import Study


@dataclass(frozen=True)
class Finding:
    """A claim with its source, the measurement in words, and whether it agrees (None: not decided by this run)."""

    claim: str
    measured: str
    agrees: bool | None


def gradient_finding(study: Study) -> Finding:
    """The identity path carries the gradient."""
    ours, twin = study.initial.norms, study.twin_initial.norms
    drop, twin_drop = ours[0] / ours[-1], twin[0] / twin[-1]
    share = mean(study.trained.identity_shares)
    measured = (
        f"From the last block's input to the first's, the gradient's norm changes {drop:.2g}-fold in {study.name} and "
        f"{twin_drop:.2g}-fold in {study.twin_name} at initialisation. On average {mean(study.initial.identity_shares):.0%} of the "
        f"gradient at a block's input came by the identity path at initialisation, {share:.0%} after training."
    )
    claim = "The gradient reaches every block directly by the identity path, dL/dx = dL/dy (1 + dF/dx) (arXiv 1603.05027, eq. 5)."
    return Finding(claim, measured, share > 0.5)


def path_finding(study: Study) -> Finding:
    """Short paths carry the gradient although most paths are long."""
    count = len(study.paths.paths) - 1
    average = sum(length * share for length, share in enumerate(study.paths.paths))
    carried = sum(length * share for length, share in enumerate(study.paths.contributions))
    order = sorted(range(count + 1), key=lambda length: -study.paths.contributions[length])
    most: list[int] = []
    for length in order:
        most.append(length)
        if sum(study.paths.contributions[i] for i in most) >= 0.9:
            break
    measured = (
        f"Of the 2^{count} paths the mean length is {average:.1f} branches; weighted by gradient it is {carried:.1f}. "
        f"90 % of the gradient comes from paths of {min(most)} to {max(most)} branches."
    )
    claim = "Most paths have about n/2 branches, but the gradient comes from shorter ones (Veit et al., arXiv 1605.06431, section 4.3)."
    return Finding(claim, measured, carried < average)


def lesion_finding(study: Study) -> Finding:
    """Deleting a block hurts little."""
    ours = study.lesions
    inner = [error for index, error in enumerate(ours.single) if index not in ours.transitions]
    measured = (
        f"Untouched {ours.whole:.1f} %. One block deleted: median {median(inner):.1f} %, worst {max(inner):.1f} % inside a stage; "
        f"{', '.join(f'{ours.single[i]:.1f} %' for i in ours.transitions)} where the resolution changes. "
        f"{ours.deleted[-1][0]} random blocks deleted: {ours.deleted[-1][1]:.1f} %; as many swaps: {ours.swapped[-1][1]:.1f} %."
    )
    agrees: bool | None = None
    if study.twin_lesions is not None:
        twin = median(study.twin_lesions.single)
        measured += f" {study.twin_name}: untouched {study.twin_lesions.whole:.1f} %, one block deleted: median {twin:.1f} %."
        agrees = median(inner) < twin - 10
    else:
        measured += " No trained plain twin was given to compare with (--twin)."
    claim = (
        "Deleting one residual block barely matters except where the resolution changes, deleting one layer of a plain network is "
        "fatal, and the error rises smoothly with the number deleted (Veit et al., section 4.1-4.2)."
    )
    return Finding(claim, measured, agrees)


def magnitude_finding(study: Study) -> Finding:
    """Later blocks change less."""
    third = max(1, len(study.magnitudes) // 3)
    inner = [(i, m) for i, m in enumerate(study.magnitudes) if i not in study.lesions.transitions]
    first, last = mean(m for i, m in inner if i < third), mean(m for i, m in inner if i >= 2 * third)
    measured = (
        f"{min(study.magnitudes):.2f} to {max(study.magnitudes):.2f}; mean {first:.2f} in the first stage and {last:.2f} in the last, "
        "blocks that change the resolution left out."
    )
    claim = (
        "Residual functions are closer to zero than to the identity, the more so the deeper the network (He et al., section 4.2, Fig. 7)."
    )
    return Finding(claim, measured, mean(m for _, m in inner) < 1)
