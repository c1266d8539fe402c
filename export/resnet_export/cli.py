"""Command line `resnet-export`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from resnet_models.one_line import one_line
from resnet_proto.manifest import ManifestError, read_manifest
from resnet_proto.signature import check_signature
from rich.console import Console

from resnet_export.errors import ExportError
from resnet_export.sources.options import source_options, take_given

if TYPE_CHECKING:
    from resnet_models.checkpoint import Exportable

    from resnet_export.publish import Publication

PATH = click.Path(path_type=Path)
TARGETS = ("portable", "vnni", "avx2", "cuda")
one_line_errors = one_line(ExportError, ManifestError)
BOUNDS = ("--min-agreement", "--max-error", "--max-accuracy-loss", "--min-images")


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Export trained networks to ONNX, certify and publish them."""


@main.command()
@click.argument("checkpoint", required=False)
@click.option("--repository", type=PATH, required=True, help="Folder to publish to; made if absent.")
@click.option("--name", help="Model name  [default: the variant]")
@click.option("--version", type=click.IntRange(min=1), help="Version  [default: one more than the highest ever used]")
@click.option("--precision", default="auto", help="auto: all that hold; or some of fp32,fp16,int8, all of which must.")
@click.option("--images", type=PATH, help="Photographs to certify on  [default: the bundled sample where it fits]")
@click.option("--max-images", type=click.IntRange(min=1), help="Draw so many of them, over their folders  [default: all that fit in 2 GB]")
@click.option("--copy-images", is_flag=True, help="Let the version hold some of --images, to be replayed where it is served.")
@click.option("--sign", metavar="KEY", help="Sign with this private key (PEM), or as who is logged in: sigstore.")
@click.option("--calibration", type=PATH, help="Folder of other photographs to calibrate INT8 on  [default: as above]")
@click.option("--target", type=click.Choice(TARGETS), default="portable", help="What INT8 is for; portable: all processors.")
@click.option("--min-agreement", multiple=True, metavar="PRECISION=NUMBER", help="Least top-1 agreement, 0..1, such as int8=0.985.")
@click.option("--max-error", multiple=True, metavar="PRECISION=NUMBER", help="Largest absolute logit error.")
@click.option("--max-accuracy-loss", multiple=True, metavar="PRECISION=NUMBER", help="Points of top-1 that may be lost.")
@click.option("--min-images", multiple=True, metavar="PRECISION=NUMBER", help="Fewest images that certify.")
@click.option("--any-accuracy", is_flag=True, help="Do not hold the accuracy on these images against the one the checkpoint states.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where the certificate is made.")
@click.option("--random-weights", is_flag=True, help="CHECKPOINT is a variant; publish it untrained, for measuring speed.")
@click.option("--profile/--no-profile", default=True, help="Measure what each file's graph costs.")
@click.option("--expect", type=PATH, help="npz of images and logits from the training code: the reference instead of our forward pass.")
@source_options
@click.option("--json", "as_json", is_flag=True, help="Print what is published as JSON.")
@one_line_errors
def publish(checkpoint: str | None, *, random_weights: bool, profile: bool, as_json: bool, precision: str, **given: Any) -> None:
    """Publish CHECKPOINT: a file of weights, an ONNX file, a folder of timm or transformers, or a name.

    Files are .pth, .pt, .th, .ckpt, .bin, .safetensors or .onnx. Names are torchvision:resnet50[:V2], timm:NAME, hf:REPO or, with
    --random-weights, a variant.
    """
    from resnet_export import publish as publishing
    from resnet_export.policies import policies_with
    from resnet_export.precisions import AUTO, parse_precisions
    from resnet_export.progress import shown_on
    from resnet_export.sources.opening import open_source

    precisions = parse_precisions(precision)
    bounds = {option: given.pop(option.strip("-").replace("-", "_")) for option in BOUNDS}
    policies = policies_with(bounds, precisions, any_accuracy=given.pop("any_accuracy"), untrained=random_weights)
    facts = take_given(given)
    request = publishing.Request(precisions=precisions, policies=policies, most_images=given.pop("max_images"), **given)
    with open_source(checkpoint, facts, random_weights) as source:
        for note in source.notes:
            click.echo(f"note: {note}", err=True)
        with shown_on(Console(stderr=True), wanted=not as_json) as steps:
            publication = publishing.publish(source.checkpoint, source.file, request, steps)
        report(publication.folder, as_json, publication.failures)
        if profile and not as_json:
            show_profile(source.checkpoint, publication)
    finish(publication.failures, every=precision.strip() != AUTO)


def finish(failures: dict[str, str], *, every: bool) -> None:
    """Say what was not published: an error where `every` precision was asked for by name."""
    if failures and every:
        raise ExportError("; ".join(f"{text}; this precision is not published, those shown above are" for text in failures.values()))
    for text in failures.values():
        click.echo(f"not published: {text}", err=True)


@main.command(name="list")
@click.argument("repository", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def list_versions(repository: Path, as_json: bool) -> None:
    """Print what is published in REPOSITORY."""
    from resnet_export.show import listing, read_listing

    rows = read_listing(repository)
    if as_json:
        click.echo(json.dumps([vars(row) for row in rows], indent=2))
    else:
        stdout().print(listing(rows))


@main.command(name="rm")
@click.argument("version", type=PATH)
@click.option("--yes", is_flag=True, help="Do not ask.")
@one_line_errors
def remove_version(version: Path, yes: bool) -> None:
    """Remove REPOSITORY/MODEL/VERSION in one step; its number is never used again."""
    from resnet_export.repository import remove

    if not version.name.isdecimal():
        raise ExportError(f"version: '{version}'; expected REPOSITORY/MODEL/VERSION")
    if not yes:
        click.confirm(f"Remove {version}?", abort=True)
    remove(version.parent, int(version.name))
    click.echo(f"removed: {version}")


@main.command()
@click.argument("version", type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def show(version: Path, as_json: bool) -> None:
    """Print the manifest of REPOSITORY/MODEL/VERSION."""
    report(version, as_json)


@main.command()
@click.argument("version", type=PATH)
@click.option("--checkpoint", type=PATH, help="Compare with the network itself, not with the stored logits.")
@click.option("--images", type=PATH, help="With --checkpoint: folder of photographs.")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where to run it.")
@click.option("--signature", metavar="KEY", help="Also check that this public key, or sigstore:IDENTITY,ISSUER, signed it.")
@source_options
@one_line_errors
def verify(
    version: Path,
    checkpoint: Path | None,
    images: Path | None,
    provider: str,
    signature: str | None,
    **values: Any,
) -> None:
    """Check REPOSITORY/MODEL/VERSION again: digests, certificates, and the outputs on this machine."""
    if images is not None and checkpoint is None:
        raise ExportError("images: only the network itself answers for other images; give --checkpoint")
    if signature is not None:
        check_signature(version, signature)
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


@main.command()
@click.argument("version", type=PATH, required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@one_line_errors
def power(version: Path | None, as_json: bool) -> None:
    """Print how often a network that is worse than policy int8 asks would be certified and, of VERSION, pass its replay."""
    from resnet_export.power import measure_power, power_table
    from resnet_export.replay_power import measure_replay, replay_table

    certified = measure_power()
    replayed = None if version is None else measure_replay(version)
    if as_json:
        click.echo(json.dumps({"certified": certified.as_object(), "replayed": replayed and replayed.as_object()}, indent=2))
        return
    stdout().print(power_table(certified))
    if replayed is not None:
        stdout().print(replay_table(replayed))


def report(folder: Path, as_json: bool, failures: dict[str, str] | None = None) -> None:
    """Print what is published in `folder`, as tables or as one JSON object: the folder, the manifest, and what failed."""
    from resnet_export.show import as_object, certificates, summary

    manifest = read_manifest(folder)
    if as_json:
        click.echo(json.dumps(as_object(folder, manifest, failures or {}), indent=2))
        return
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
