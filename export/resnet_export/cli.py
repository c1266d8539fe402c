"""Command line `resnet-export`."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click
from resnet_models.errors import ResnetModelsError
from resnet_proto.manifest import ManifestError, read_manifest
from rich.console import Console

from resnet_export.errors import ExportError

if TYPE_CHECKING:
    from resnet_models.normalisation import Triple

P = ParamSpec("P")
R = TypeVar("R")
PATH = click.Path(path_type=Path)


class TripleType(click.ParamType["Triple"]):
    """Three numbers, R,G,B."""

    name = "R,G,B"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> "Triple":
        """Parse; fail with what was expected unless all three are finite."""
        try:
            red, green, blue = (float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}'; expected three numbers, R,G,B on the scale 0..1", param, ctx)
        if not all(-10 < channel < 10 for channel in (red, green, blue)):
            self.fail(f"'{value}'; expected finite numbers on the scale 0..1", param, ctx)
        return red, green, blue


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
@click.argument("checkpoint", type=PATH)
@click.option("--repository", type=PATH, required=True, help="Folder to publish to; made if absent.")
@click.option("--name", help="Model name  [default: the variant]")
@click.option("--version", type=click.IntRange(min=1), help="Version  [default: the highest plus one]")
@click.option("--images", type=PATH, help="Folder of photographs to certify on  [default: the bundled CIFAR-10 sample where it fits]")
@click.option("--provider", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where the certificate is made.")
@click.option("--variant", help="For a foreign file: the network, such as resnet56.")
@click.option("--mean", type=TripleType(), help="For a foreign file: channel means.")
@click.option("--std", type=TripleType(), help="For a foreign file: channel standard deviations.")
@click.option("--labels", type=PATH, help="For a foreign file: one label a line.")
@one_line_errors
def publish(
    checkpoint: Path,
    repository: Path,
    name: str | None,
    version: int | None,
    images: Path | None,
    provider: str,
    variant: str | None,
    mean: "Triple | None",
    std: "Triple | None",
    labels: Path | None,
) -> None:
    """Publish CHECKPOINT: ours (.safetensors), torchvision's (.pth) or another state dict (.th)."""
    from resnet_export.publish import Request
    from resnet_export.publish import publish as run
    from resnet_export.sources import Given, read_source

    source = read_source(checkpoint, Given(variant, mean, std, labels))
    publication = run(source, checkpoint, Request(repository, name, version, images, provider))
    report(publication.folder)


@main.command()
@click.argument("version", type=PATH)
@one_line_errors
def show(version: Path) -> None:
    """Print the manifest of REPOSITORY/MODEL/VERSION."""
    report(version)


def report(folder: Path) -> None:
    """Print what is published in `folder`."""
    from resnet_export.show import certificates, summary

    manifest = read_manifest(folder)
    console = Console(markup=False, highlight=False)  # shapes stand in brackets
    console.print(summary(manifest))
    console.print(certificates(manifest))
    console.print(f"published: {folder}", soft_wrap=True)
