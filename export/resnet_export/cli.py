"""Command line `resnet-export`."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click
from resnet_models.errors import ResnetModelsError
from resnet_proto.manifest import ManifestError, read_manifest
from rich.console import Console

from resnet_export.errors import ExportError
from resnet_export.sources.options import source_options, take_given

if TYPE_CHECKING:
    from resnet_models.checkpoint import Exportable

    from resnet_export.publish import Publication

P = ParamSpec("P")
R = TypeVar("R")
PATH = click.Path(path_type=Path)


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print what a user can cause without a traceback, and exit with status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (ExportError, ResnetModelsError, ManifestError, OSError) as error:
            raise click.ClickException(str(error)) from None

    return wrapped


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Export trained networks to ONNX, certify and publish them."""


@main.command()
@click.argument("checkpoint", required=False)
@click.option("--repository", type=PATH, required=True, help="Folder to publish to; made if absent.")
@click.option("--name", help="Model name  [default: the variant]")
@click.option("--version", type=click.IntRange(min=1), help="Version  [default: the highest plus one]")
@click.option("--precision", default="fp32", help="Some of fp32,fp16,int8.")
@click.option("--images", type=PATH, help="Photographs to certify on  [default: the bundled sample where it fits]")
@click.option("--calibration", type=PATH, help="Folder of other photographs to calibrate INT8 on  [default: as above]")
@click.option(
    "--reduce-range", type=click.Choice(["auto", "on", "off"]), default="auto", help="INT8 weights in 7 bits; auto: without VNNI."
)
@click.option("--min-agreement", multiple=True, metavar="PRECISION=NUMBER", help="Least top-1 agreement, 0..1, such as int8=0.985.")
@click.option("--max-error", multiple=True, metavar="PRECISION=NUMBER", help="Largest absolute logit error.")
@click.option("--max-accuracy-loss", multiple=True, metavar="PRECISION=NUMBER", help="Points of top-1 that may be lost.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where the certificate is made.")
@click.option("--random-weights", is_flag=True, help="CHECKPOINT is a variant; publish it untrained, for measuring speed.")
@click.option("--profile/--no-profile", default=True, help="Measure what each file's graph costs.")
@click.option("--expect", type=PATH, help="npz of images and logits from the training code: the reference instead of our forward pass.")
@source_options
@one_line_errors
def publish(
    checkpoint: str | None,
    repository: Path,
    name: str | None,
    version: int | None,
    precision: str,
    images: Path | None,
    calibration: Path | None,
    reduce_range: str,
    min_agreement: tuple[str, ...],
    max_error: tuple[str, ...],
    max_accuracy_loss: tuple[str, ...],
    provider: str,
    random_weights: bool,
    profile: bool,
    expect: Path | None,
    **values: Any,
) -> None:
    """Publish CHECKPOINT: a file of weights, an ONNX file, a folder of timm or transformers, or a name.

    Files are .pth, .pt, .th, .ckpt, .bin, .safetensors or .onnx. Names are torchvision:resnet50[:V2], timm:NAME, hf:REPO or, with
    --random-weights, a variant.
    """
    from resnet_export import publish as publishing
    from resnet_export.policies import policies_with
    from resnet_export.precisions import parse_precisions
    from resnet_export.quantise import needs_reduced_range
    from resnet_export.sources.opening import open_source

    precisions = parse_precisions(precision)
    bounds = {"--min-agreement": min_agreement, "--max-error": max_error, "--max-accuracy-loss": max_accuracy_loss}
    request = publishing.Request(
        repository,
        name,
        version,
        images,
        provider,
        precisions,
        calibration,
        needs_reduced_range() if reduce_range == "auto" else reduce_range == "on",
        policies_with(bounds, precisions),
        expect,
    )
    with open_source(checkpoint, take_given(values), random_weights) as source:
        for note in source.notes:
            click.echo(f"note: {note}", err=True)
        publication = publishing.publish(source.checkpoint, source.file, request)
        report(publication.folder)
        if profile:
            show_profile(source.checkpoint, publication)
    if publication.failures:
        raise ExportError(
            "; ".join(f"{failure}; this precision is not published, those shown above are" for failure in publication.failures)
        )


@main.command()
@click.argument("version", type=PATH)
@one_line_errors
def show(version: Path) -> None:
    """Print the manifest of REPOSITORY/MODEL/VERSION."""
    report(version)


@main.command()
@click.argument("version", type=PATH)
@click.option("--checkpoint", type=PATH, help="Compare with the network itself, not with the stored logits.")
@click.option("--images", type=PATH, help="With --checkpoint: folder of photographs.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to run it.")
@source_options
@one_line_errors
def verify(
    version: Path,
    checkpoint: Path | None,
    images: Path | None,
    provider: str,
    **values: Any,
) -> None:
    """Check REPOSITORY/MODEL/VERSION again: digests, certificates, and the outputs on this machine."""
    if images is not None and checkpoint is None:
        raise ExportError("images: only the network itself answers for other images; give --checkpoint")
    if checkpoint is None:
        from resnet_export.verify import verify_stored

        findings = verify_stored(version, provider)
    else:
        from resnet_export.recertify import recertify
        from resnet_export.sources.opening import open_source

        with open_source(str(checkpoint), take_given(values)) as source:
            findings = recertify(version, source.checkpoint, source.file, images, provider)
    for finding in findings:
        click.echo(f"{finding.precision}: {'BROKEN' if finding.broken else 'holds'}: {finding.broken or finding.text}")
    if broken := [finding.precision for finding in findings if finding.broken]:
        raise ExportError(f"{version}: {', '.join(broken)} does not hold")


def report(folder: Path) -> None:
    """Print what is published in `folder`."""
    from resnet_export.show import certificates, summary

    manifest = read_manifest(folder)
    stdout().print(summary(manifest))
    stdout().print(certificates(manifest))
    stdout().print(f"published: {folder}", soft_wrap=True)


def show_profile(source: "Exportable", publication: "Publication") -> None:
    """Print nodes and batch times."""
    from resnet_export.profile import profile, profile_table

    stdout().print(profile_table(profile(source, publication.folder, publication.manifest)))


def stdout() -> Console:
    """Plain text, wide enough for a table where it is not a terminal; shapes stand in brackets, so no markup."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 120)
