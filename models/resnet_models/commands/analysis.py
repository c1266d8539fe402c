"""`resnet-train analyze`, `landscape`, `claims` and `card`: what a trained network is, and why it trains."""

import sys
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console

from resnet_models.commands.options import threads_option, use_threads
from resnet_models.one_line import one_line


@click.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@click.option(
    "--evaluations", type=click.Path(path_type=Path), help="What `evaluate --split train` wrote, for files that record no training error."
)
@one_line()
def card(checkpoints: tuple[Path, ...], evaluations: Path | None) -> None:
    """Write a model card in Markdown beside each CHECKPOINT."""
    from resnet_models.card import model_card
    from resnet_models.checkpoint import load_checkpoint
    from resnet_models.evaluation import read_evaluations

    found = read_evaluations(evaluations) if evaluations else None
    for path in checkpoints:
        target = path.with_suffix(".md")
        target.write_text(model_card(load_checkpoint(path), path, found), encoding="utf-8")
        print(target)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--twin", type=click.Path(path_type=Path), help="Checkpoint of the plain twin, for the same measurements.")
@click.option("--family", type=click.Path(path_type=Path), multiple=True, help="Networks of other depths, for layer responses; repeatable.")
@click.option("--landscapes", type=click.Path(path_type=Path), multiple=True, help="Planes that `landscape` wrote of both; repeatable.")
@click.option("--lesions", type=click.Path(path_type=Path), help="What `lesions` wrote, to show in place of the study's own.")
@click.option("--study", type=click.Path(path_type=Path), help="Numbers of an earlier run: nothing is measured, the report written again.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file; the numbers go beside it  [default: NAME.html]")
@click.option("--images", type=click.IntRange(10, 1000), default=200, help="Bundled test images for the lesions.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of initial weights, sampled paths and draws.")
@threads_option
@one_line()
def analyze(
    checkpoint: Path,
    twin: Path | None,
    family: tuple[Path, ...],
    landscapes: tuple[Path, ...],
    lesions: Path | None,
    study: Path | None,
    out: Path | None,
    images: int,
    seed: int,
    threads: int | None,
) -> None:
    """Measure gradients, paths, lesions and responses of CHECKPOINT.

    Writes the numbers as JSON and a report with a verdict on each part of each claim.
    """
    from resnet_models.analysis.page import study_report
    from resnet_models.analysis.study import read_study, run_study, with_lesions, write_study
    from resnet_models.checkpoint import load_checkpoint

    use_threads(threads)
    loaded = load_checkpoint(checkpoint)
    if study is not None:
        found = read_study(study)
        if found.name != loaded.info.variant:
            raise click.BadParameter(f"is of {found.name}; expected {loaded.info.variant}", param_hint="study")
        path = out or Path(f"{found.name}.html")
    else:
        twins, others = load_checkpoint(twin) if twin else None, [load_checkpoint(one) for one in family]
        with Console(file=sys.stderr).status("") as status:
            found = run_study(loaded, twins, others, images, seed, lambda text: status.update(f"{text} ..."))
        words = [f"--twin {twin.name}"] if twin else []
        words += [f"--family {one.name}" for one in family]
        found = replace(found, command=" ".join(["resnet-train analyze", checkpoint.name, *words, f"--images {images} --seed {seed}"]))
        path = out or Path(f"{found.name}.html")
        write_study(found, path.with_suffix(".json"))
    study_report(found if lesions is None else with_lesions(found, lesions), loaded, landscapes, path)
    print(path)


@click.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@click.option("--steps", type=click.IntRange(3, 201), default=21, help="Points along each direction; odd.")
@click.option("--reach", type=click.FloatRange(0, min_open=True), default=1.0, help="How far, in norms of the filters.")
@click.option("--images", type=click.IntRange(10, 1000), default=200, help="Bundled test images that the loss is of.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of the two directions.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="landscapes.json", help="JSON; the plot goes beside it.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", help="bf16: twice as fast where the processor has it.")
@threads_option
@one_line()
def landscape(
    checkpoints: tuple[Path, ...], steps: int, reach: float, images: int, seed: int, out: Path, precision: str, threads: int | None
) -> None:
    """Draw the loss around each CHECKPOINT on a plane of two random directions with filter normalisation (Li et al. 2018).

    Rows that OUT has already, measured in the same way, are not measured again: an interrupted command continues.
    """
    from resnet_models.analysis.figures import landscape_figure
    from resnet_models.analysis.landscape import LandscapePlan, measure_landscapes
    from resnet_models.devices import PRECISIONS
    from resnet_models.files import write_atomically

    if steps % 2 == 0:
        raise click.BadParameter(f"{steps}; expected an odd number, so that the network itself is on the grid", param_hint="steps")
    use_threads(threads)
    with Console(file=sys.stderr).status("") as status:
        found = measure_landscapes(checkpoints, LandscapePlan(steps, reach, images, seed, PRECISIONS[precision]), out, status.update)
    figure = landscape_figure(found)
    write_atomically(out.with_suffix(".png"), lambda temporary: figure.savefig(temporary, format="png", dpi=100))
    for name, one in found.items():
        shares = f"{100 * one.roughness():.0f} % of the plane not convex, {100 * one.basin():.0f} % below 2 nats"
        print(f"{name}: loss {one.centre:.3f} at the centre, {shares}")
    print(out)


@click.command()
@click.option("--depths", default="20,56,110", help="Of 8, 20, 32, 44, 56 and 110, in rising order.")
@click.option("--seeds", type=click.IntRange(min=2), default=3, help="Draw every network with the seeds 1 to this.")
@click.option("--images", type=click.IntRange(10, 1000), default=64, help="Bundled test images.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default="initialisation.json", help="JSON; the plot goes beside it."
)
@threads_option
@one_line()
def initialisation(depths: str, seeds: int, images: int, out: Path, threads: int | None) -> None:
    """Measure untrained networks: what batch normalisation does to branches, and pre-activation to shortcuts.

    The second at the second of the depths. Needs no data and trains nothing.
    """
    from resnet_models.analysis.figures import initialisation_figure
    from resnet_models.analysis.initialisation import measure_initialisation, write_initialisation
    from resnet_models.analysis.initialisation_claims import initialisation_claims
    from resnet_models.analysis.tables import claims_table
    from resnet_models.files import write_atomically
    from resnet_models.variants import OPTION_DEPTHS

    chosen = [int(part) if part.isdigit() else 0 for part in depths.split(",")]
    if len(chosen) < 2 or chosen != sorted(set(chosen)) or not set(chosen) <= set(OPTION_DEPTHS):
        known = ", ".join(map(str, OPTION_DEPTHS))
        raise click.BadParameter(f"'{depths[:60]}'; expected two or more of {known}, in rising order", param_hint="depths")
    use_threads(threads)
    command = f"resnet-train initialisation --depths {depths} --seeds {seeds} --images {images}"
    with Console(file=sys.stderr).status("") as status:
        found = measure_initialisation(chosen, chosen[1], seeds, images, command, status.update)
    write_initialisation(found, out)
    figure = initialisation_figure(found)
    write_atomically(out.with_suffix(".png"), lambda temporary: figure.savefig(temporary, format="png", dpi=90))
    print(claims_table(initialisation_claims(found)))
    print(out)


@click.command("lesions")
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@click.option("--images", type=click.IntRange(10, 1000), default=1000, help="Bundled test images.")
@click.option("--draws", type=click.IntRange(min=1), default=5, help="For each number of blocks deleted, and of blocks swapped.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of the draws.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="lesions.json", help="JSON file.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", help="bf16: twice as fast where the processor has it.")
@threads_option
@one_line()
def hurt(checkpoints: tuple[Path, ...], images: int, draws: int, seed: int, out: Path, precision: str, threads: int | None) -> None:
    """Delete and reorder blocks of each CHECKPOINT at test time (Veit et al. 2016, section 4).

    Lesions that OUT has already, of the same plan, are not measured again: an interrupted command continues.
    """
    from resnet_models.analysis.lesions import LesionPlan, measure_lesions
    from resnet_models.devices import PRECISIONS

    use_threads(threads)
    with Console(file=sys.stderr).status("") as status:
        found = measure_lesions(checkpoints, LesionPlan(draws, seed, images, PRECISIONS[precision]), out, status.update)
    for name, one in found.items():
        print(f"{name}: {one.whole:.1f} % wrong, {min(one.single):.1f} to {max(one.single):.1f} % with one block deleted")
    print(out)


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of what the other commands wrote.")
@click.option("--checkpoints", type=click.Path(path_type=Path, file_okay=False), help="Folder of the networks  [default: the bundled ones]")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Markdown page whose table is replaced  [default: print it]")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder to draw the figures into.")
@click.option("--check", is_flag=True, help="Change nothing; fail if the page's table is not what the results give.")
@one_line()
def claims(results: Path, checkpoints: Path | None, page: Path | None, plots: Path | None, check: bool) -> None:
    """Test each claim on stored results, part by part, and write the tables of networks, of recipes and of verdicts."""
    from resnet_models.analysis.tables import all_tables, draw_figures, with_table

    if plots is not None:
        draw_figures(results, plots)
    tables = all_tables(results, checkpoints)
    if page is None:
        print("\n\n".join(tables.values()))
        return
    before = page.read_text(encoding="utf-8")
    after = before
    for name, table in tables.items():
        after = with_table(after, name, table)
    if check and after != before:
        raise click.ClickException(f"page: {page} is not what {results} gives; run resnet-train claims without --check")
    page.write_text(after, encoding="utf-8")
    print(page)
