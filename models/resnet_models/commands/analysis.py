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
@one_line()
def card(checkpoints: tuple[Path, ...]) -> None:
    """Write a model card in Markdown beside each CHECKPOINT."""
    from resnet_models.card import model_card
    from resnet_models.checkpoint import load_checkpoint

    for path in checkpoints:
        target = path.with_suffix(".md")
        target.write_text(model_card(load_checkpoint(path), path), encoding="utf-8")
        print(target)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--twin", type=click.Path(path_type=Path), help="Checkpoint of the plain twin, for the same measurements.")
@click.option("--family", type=click.Path(path_type=Path), multiple=True, help="Networks of other depths, for layer responses; repeatable.")
@click.option("--landscapes", type=click.Path(path_type=Path), help="What `landscape` wrote of this network and its twin.")
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
    landscapes: Path | None,
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
    from resnet_models.analysis.study import read_study, run_study, write_study
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
    study_report(found, loaded, landscapes, path)
    print(path)


@click.command()
@click.argument("checkpoints", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="CHECKPOINT...")
@click.option("--steps", type=click.IntRange(3, 201), default=21, help="Points along each direction; odd.")
@click.option("--reach", type=click.FloatRange(0, min_open=True), default=1.0, help="How far, in norms of the filters.")
@click.option("--images", type=click.IntRange(10, 1000), default=200, help="Bundled test images that the loss is of.")
@click.option("--seed", type=click.IntRange(min=0), default=1, help="Of the two directions.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), default="landscapes.json", help="JSON; the plot goes beside it.")
@threads_option
@one_line()
def landscape(checkpoints: tuple[Path, ...], steps: int, reach: float, images: int, seed: int, out: Path, threads: int | None) -> None:
    """Draw the loss around each CHECKPOINT on a plane of two random directions with filter normalisation (Li et al. 2018).

    Networks that OUT has already, measured in the same way, are not measured again: an interrupted command continues.
    """
    from resnet_models.analysis.figures import landscape_figure
    from resnet_models.analysis.landscape import LandscapePlan, measure_landscapes
    from resnet_models.files import write_atomically

    if steps % 2 == 0:
        raise click.BadParameter(f"{steps}; expected an odd number, so that the network itself is on the grid", param_hint="steps")
    use_threads(threads)
    with Console(file=sys.stderr).status("") as status:
        found = measure_landscapes(checkpoints, LandscapePlan(steps, reach, images, seed), out, status.update)
    figure = landscape_figure(found)
    write_atomically(out.with_suffix(".png"), lambda temporary: figure.savefig(temporary, format="png", dpi=100))
    for name, one in found.items():
        shares = f"{100 * one.roughness():.0f} % of the plane not convex, {100 * one.basin():.0f} % below 2 nats"
        print(f"{name}: loss {one.centre:.3f} at the centre, {shares}")
    print(out)


@click.command()
@click.option("--results", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of what the other commands wrote.")
@click.option("--page", type=click.Path(path_type=Path, dir_okay=False), help="Markdown page whose table is replaced  [default: print it]")
@click.option("--plots", type=click.Path(path_type=Path, file_okay=False), help="Folder to draw the figures into.")
@click.option("--check", is_flag=True, help="Change nothing; fail if the page's table is not what the results give.")
@one_line()
def claims(results: Path, page: Path | None, plots: Path | None, check: bool) -> None:
    """Test each claim on stored results, part by part, and write the table of verdicts."""
    from resnet_models.analysis.tables import all_claims, claims_table, draw_figures, with_table

    if plots is not None:
        draw_figures(results, plots)
    table = claims_table(all_claims(results))
    if page is None:
        print(table)
        return
    before = page.read_text(encoding="utf-8")
    after = with_table(before, table)
    if check and after != before:
        raise click.ClickException(f"page: {page} is not what {results} gives; run resnet-train claims without --check")
    page.write_text(after, encoding="utf-8")
    print(page)
