"""The claim-by-claim table of the documentation, made from the committed results."""

import csv
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from resnet_models.analysis import figures
from resnet_models.analysis.checks import Claim, counted
from resnet_models.analysis.claims import landscape_claim, study_claims
from resnet_models.analysis.depth_claims import ONE_SEED, degradation_claim, depth_claim
from resnet_models.analysis.landscape import read_landscapes
from resnet_models.analysis.study import read_study
from resnet_models.checkpoint import Epoch
from resnet_models.degradation import Run
from resnet_models.errors import DataError
from resnet_models.evaluation import read_evaluations
from resnet_models.files import write_atomically

BEGIN, END = "<!-- claims: made by `resnet-train claims`; do not edit -->", "<!-- end of claims -->"
STUDY, LANDSCAPES, TEST, TRAIN, CURVES = "resnet56.json", "landscapes.json", "evaluations-test.json", "evaluations-train.json", "curves.csv"


def read_curves(path: Path) -> list[Run]:
    """Read what `degradation` wrote; raise DataError for anything else."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [
            Run(
                name,
                None,
                tuple(Epoch(int(r["epoch"]), *(float(r[key]) for key in ("train_loss", "train_error", "test_error"))) for r in some),
            )
            for name, some in groupby(rows, key=lambda row: row["network"])
        ]
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"curves: {path} cannot be read: {error!r}") from None


def all_claims(folder: Path) -> list[Claim]:
    """Every claim that the results in `folder` decide; landscapes and training evaluations may be absent."""
    test, study = read_evaluations(folder / TEST), read_study(folder / STUDY)
    train = read_evaluations(folder / TRAIN) if (folder / TRAIN).exists() else None
    claims = [degradation_claim(test, train, read_curves(folder / CURVES)), depth_claim(test), *study_claims(study)]
    if (folder / LANDSCAPES).exists():
        planes = read_landscapes(folder / LANDSCAPES)
        claims.append(landscape_claim(study.name, planes[study.name], study.twin, planes[study.twin]))
    return claims


def draw_figures(results: Path, folder: Path) -> None:
    """Draw every figure that the results give, as PNG."""
    study = read_study(results / STUDY)
    drawn = {
        "gradients": figures.gradient_figure(study),
        "correlations": figures.correlation_figure(study),
        "paths": figures.path_figure(study),
        "lesions": figures.lesion_figure(study),
        "responses": figures.response_figure(study),
    }
    if (results / LANDSCAPES).exists():
        drawn["landscapes"] = figures.landscape_figure(read_landscapes(results / LANDSCAPES))
    for name, figure in drawn.items():
        write_atomically(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=90))


def claims_table(claims: Sequence[Claim]) -> str:
    """Markdown: a row for each part of each claim."""
    lines = [f"{counted(claims)}; *not decided* is an interval that holds the bound. {ONE_SEED}.", ""]
    lines += ["| claim | the source reports | part | measured [95 %] | bound | verdict |", "|---|---|---|---|---|---|"]
    for claim in claims:
        for number, check in enumerate(claim.checks):
            head = f"**{claim.title}** ({claim.source}): {claim.overall} | {claim.reported}" if number == 0 else " | "
            lines.append(f"| {head} | {check.part} | {check.measured} | {check.bound} | {check.verdict} |".replace("|dL", "dL"))
    return "\n".join(lines)


def with_table(page: str, table: str) -> str:
    """The page with its table replaced; raise DataError if it has no place for one."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"page: has no line {BEGIN} and, after it, {END}")
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
