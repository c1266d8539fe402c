"""The tables and figures of the documentation, made from the committed results."""

import csv
from collections.abc import Sequence
from functools import partial
from importlib.resources import files
from itertools import groupby
from pathlib import Path

from resnet_models.analysis import figures
from resnet_models.analysis.checks import Claim, counted, judge
from resnet_models.analysis.claims import landscape_claim, lesion_claims, study_claims
from resnet_models.analysis.depth_claims import THESE, degradation_claim, depth_claim
from resnet_models.analysis.initialisation import read_initialisation
from resnet_models.analysis.initialisation_claims import initialisation_claims
from resnet_models.analysis.page import planes_of
from resnet_models.analysis.seed_claims import depths_with_options, option_claim, seed_claims
from resnet_models.analysis.study import Study, read_study, with_lesions
from resnet_models.card import PAPER_ERROR, training_error
from resnet_models.checkpoint import Checkpoint, Epoch, load_checkpoint
from resnet_models.degradation import Run
from resnet_models.errors import DataError
from resnet_models.evaluation import Evaluation, EvaluationSet, read_evaluations
from resnet_models.files import write_atomically
from resnet_models.network import count_multiply_adds, count_parameters
from resnet_models.seeds import read_summary
from resnet_models.statistics import compare_paired, error_interval

STUDY, TEST, TRAIN, CURVES = "resnet56.json", "evaluations-test.json", "evaluations-train.json", "curves.csv"
LESIONS, INITIALISATION = "lesions.json", "initialisation.json"
SEEDS, SEED_EVALUATIONS, RECIPES = "seeds*.json", "evaluations-seeds.json", "evaluations-recipes.json"
LANDSCAPES = "landscapes*.json"


def begin(name: str) -> str:
    """The line before the table `name` of a page."""
    return f"<!-- {name}: made by `resnet-train claims`; do not edit -->"


def end(name: str) -> str:
    """The line after it."""
    return f"<!-- end of {name} -->"


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
    """Every claim that the results in `folder` decide; all but the study, its curves and the test evaluations may be absent."""
    test, study = read_evaluations(folder / TEST), stored_study(folder)
    train = _evaluations(folder / TRAIN)
    rows = [row for path in sorted(folder.glob(SEEDS)) for row in read_summary(path)]
    claims = [degradation_claim(test, train, read_curves(folder / CURVES)), depth_claim(test)]
    claims += seed_claims(rows, _evaluations(folder / SEED_EVALUATIONS))
    if held := _evaluations(folder / RECIPES):
        claims += [option_claim([], held, depth) for depth in depths_with_options([one.network for one in held.evaluations])]
    claims += study_claims(study)
    if planes := planes_of(study, sorted(folder.glob(LANDSCAPES))):
        claims.append(landscape_claim(study.name, study.twin, planes))
    if (folder / INITIALISATION).exists():
        claims += initialisation_claims(read_initialisation(folder / INITIALISATION))
    return claims


def stored_study(folder: Path) -> Study:
    """The study in `folder`, with the lesions that were measured apart from it, where there are some."""
    study = read_study(folder / STUDY)
    return with_lesions(study, folder / LESIONS) if (folder / LESIONS).exists() else study


def _evaluations(path: Path) -> EvaluationSet | None:
    return read_evaluations(path) if path.exists() else None


def all_tables(folder: Path, checkpoints: Path | None = None) -> dict[str, str]:
    """By the name of their place in a page: networks (the bundled ones unless a folder is given), recipes if any were compared, claims."""
    paths = sorted((checkpoints or Path(str(files("resnet_models") / "pretrained"))).glob("*.safetensors"))
    test, train, recipes = read_evaluations(folder / TEST), _evaluations(folder / TRAIN), _evaluations(folder / RECIPES)
    tables = {"networks": networks_table([(path, load_checkpoint(path)) for path in paths], test, train)}
    if recipes is not None:
        tables["recipes"] = recipes_table(recipes)
    return tables | {"claims": claims_table(all_claims(folder))}


def networks_table(found: Sequence[tuple[Path, Checkpoint]], test: EvaluationSet, train: EvaluationSet | None) -> str:
    """A row for each network, residual ones first: size, test error alone and with the mirror image, the paper's, training error."""
    lines = ["| network | parameters | multiply-adds | test error | with the mirror image | the paper's | training error | epochs |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for path, checkpoint in sorted(found, key=lambda one: (one[1].network.variant.family != "resnet", one[1].network.variant.depth)):
        info, network = checkpoint.info, checkpoint.network
        mirrored = next((e for e in test.evaluations if e.network == info.variant and e.flip), None)
        size = f"{count_parameters(network):,} | {count_multiply_adds(network) / 1e6:.1f} M"
        error = "not measured" if info.accuracy is None else f"{100 - info.accuracy:.2f} %"
        paper = f"{PAPER_ERROR[info.variant]:.2f} %" if info.variant in PAPER_ERROR else "none"
        fitted = training_error(info, path, train)
        known = "not measured" if fitted is None else f"{fitted[0]:.2f} %"
        cells = [info.variant, size, error, _less(test.of(info.variant), mirrored) if mirrored else "", paper, known]
        lines.append(f"| {' | '.join(cells)} | {info.epochs} |")
    return "\n".join(lines)


def _less(alone: Evaluation, mirrored: Evaluation) -> str:
    difference = compare_paired(alone.wrong_images(), mirrored.wrong_images()).difference
    return f"{mirrored.error:.2f} %: {difference} points less"


def recipes_table(found: EvaluationSet) -> str:
    """A row for each recipe on the images held out, against the first on the same images."""
    first = found.evaluations[0]
    lines = [f"| recipe, {first.network} | error | less than `{first.recipe}` | verdict |", "|---|---|---|---|"]
    lines.append(f"| `{first.recipe}` | {error_interval(first.wrong, first.images)} % | | |")
    for one in (one for one in found.evaluations[1:] if one.network == first.network):
        paired = compare_paired(first.wrong_images(), one.wrong_images())
        verdict = {"holds": "helps", "does not hold": "hurts"}.get(judge(paired.difference.low, paired.difference.high, 0), "not decided")
        cells = [f"`{one.recipe}`", f"{one.error:.2f} %", f"{paired.difference} points, p = {paired.p:.1g}", verdict]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_figures(results: Path, folder: Path) -> None:
    """Draw every figure that the results give, as PNG."""
    study = stored_study(results)
    drawn = {
        "gradients": figures.gradient_figure(study),
        "correlations": figures.correlation_figure(study),
        "paths": figures.path_figure(study),
        "responses": figures.response_figure(study),
    }
    for claim in lesion_claims(study):
        drawn["lesions" if claim.about == study.name else f"lesions-{claim.about}"] = figures.lesion_figure(study.lesions, claim.about)
    if planes := planes_of(study, sorted(results.glob(LANDSCAPES))):
        drawn["landscapes"] = figures.landscape_figure(planes[0])
    if (results / INITIALISATION).exists():
        drawn["initialisation"] = figures.initialisation_figure(read_initialisation(results / INITIALISATION))
    for name, figure in drawn.items():
        write_atomically(folder / f"{name}.png", partial(figure.savefig, format="png", dpi=90))


def claims_table(claims: Sequence[Claim]) -> str:
    """Markdown: a row for each part of each claim."""
    lines = [f"{counted(claims)}; *not decided* is an interval that holds the bound. {THESE}.", ""]
    lines += ["| claim | the source reports | part | measured [95 %] | bound | verdict |", "|---|---|---|---|---|---|"]
    for claim in claims:
        for number, check in enumerate(claim.checks):
            head = f"**{claim.title}** ({claim.source}): {claim.overall} | {claim.reported}" if number == 0 else " | "
            lines.append(f"| {head} | {check.part} | {check.measured} | {check.bound} | {check.verdict} |".replace("|dL", "dL"))
    return "\n".join(lines)


def with_table(page: str, name: str, table: str) -> str:
    """The page with its table `name` replaced; raise DataError if it has no place for one."""
    before, first, rest = page.partition(begin(name))
    _, last, after = rest.partition(end(name))
    if not first or not last:
        raise DataError(f"page: has no line {begin(name)} and, after it, {end(name)}")
    return f"{before}{first}\n\n{table}\n\n{last}{after}"
