"""The report of one study, put together."""

import html
from collections.abc import Sequence
from pathlib import Path

from resnet_models.analysis import figures
from resnet_models.analysis.activations import look
from resnet_models.analysis.claims import correlation_claim, gradient_claim, landscape_claim, lesion_claims, path_claim, response_claim
from resnet_models.analysis.landscape import Landscape, read_landscapes
from resnet_models.analysis.material import material
from resnet_models.analysis.report import Section, write_report
from resnet_models.analysis.study import Study
from resnet_models.checkpoint import Checkpoint

SHOWN = 4
MASKED = (
    "The share of the shortcut is not the 1 of arXiv 1603.05027, eq. 5: that needs blocks that end with the addition (pre-activation). "
    "Here a ReLU follows it and masks both ways. Norms are with batch statistics, normalisation's own backward terms included."
)
CANCELLING = (
    "The exact sum is signed: gradients of paths cancel, so a length's share may be negative and all add up to 1. What Veit et al. plot, "
    "number of paths times norm of one, leaves that out."
)
SCALED = "Class activation maps (Zhou et al., arXiv 1512.04150) are scaled to each image's own range; channels are those that vary most."
PLANE = "Two random directions with filter normalisation; the centre is the trained network. The first of the planes that were measured."


def planes_of(study: Study, landscapes: Sequence[Path]) -> list[dict[str, Landscape]]:
    """The planes in these files that both networks of the study are measured on."""
    both = [{name: found[name] for name in (study.name, study.twin) if name in found} for found in map(read_landscapes, landscapes)]
    return [pair for pair in both if len(pair) == 2]


def study_report(study: Study, checkpoint: Checkpoint, landscapes: Sequence[Path], path: Path) -> None:
    """Write HTML; the landscapes' section only where there are files of whole planes of both networks, the first of which is drawn."""
    sections = [
        Section("Gradient norms", figures.gradient_figure(study), gradient_claim(study), MASKED),
        Section("Gradient correlation", figures.correlation_figure(study), correlation_claim(study)),
        Section("Short paths", figures.path_figure(study), path_claim(study), CANCELLING),
        *(Section(claim.title, figures.lesion_figure(study.lesions, claim.about), claim) for claim in lesion_claims(study)),
        Section("Layer responses", figures.response_figure(study), response_claim(study)),
    ]
    if planes := planes_of(study, landscapes):
        claim = landscape_claim(study.name, study.twin, planes)
        sections.append(Section("Loss landscape", figures.landscape_figure(planes[0]), claim, PLANE))
    some = material(SHOWN, 1, checkpoint.info.normalisation)
    labels = checkpoint.info.labels
    shown = [(some.pixels[i], labels[int(some.labels[i])], look(checkpoint.network, some.images[i : i + 1])) for i in range(SHOWN)]
    sections.append(Section("What it sees", figures.activation_figure(shown, labels), None, SCALED))
    intro = f"Measured on {html.escape(study.source)} with <code>{html.escape(study.command)}</code>."
    write_report(f"Why {study.name} trains", intro, sections, path)
