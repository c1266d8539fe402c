"""Command line `resnet-client`."""

import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import ParamSpec, TypeVar

import click
from rich.console import Console
from rich.table import Table

from resnet_client.blocking import Client
from resnet_client.channel import DEFAULT_TIMEOUT, DEFAULT_URL
from resnet_client.errors import ClientError
from resnet_client.results import ModelInfo, Prediction

P = ParamSpec("P")
R = TypeVar("R")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

url_option = click.option("--url", default=DEFAULT_URL, envvar="RESNET_CLIENT_URL", show_envvar=True, help="host:port of the server.")
timeout_option = click.option("--timeout", type=click.FloatRange(0, min_open=True), default=DEFAULT_TIMEOUT, help="Deadline in seconds.")
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Print a failed call without a traceback, and exit with status 1."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except ClientError as error:
            raise click.ClickException(str(error)) from None

    return wrapped


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Classify images with a running resnet-server."""


@main.command()
@click.argument("images", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", default="", help="Model name  [default: the only one served]")
@click.option("--version", default="", help="Version  [default: the highest]")
@click.option("--precision", default="", help="One that is loaded  [default: the model's default]")
@click.option("--top-k", type=click.IntRange(min=1), default=5, help="Labels per image.")
@url_option
@timeout_option
@json_option
@one_line_errors
def classify(
    images: tuple[Path, ...], model: str, version: str, precision: str, top_k: int, url: str, timeout: float, as_json: bool
) -> None:
    """Classify image files, and all images in folders."""
    paths = expand(images)
    with Client(url, timeout=timeout) as client:
        found = client.classify(paths, model=model, version=version, precision=precision, top_k=top_k)
    if as_json:
        click.echo(json.dumps([{"image": str(path)} | asdict(one) for path, one in zip(paths, found, strict=True)], indent=2))
    else:
        show_predictions(paths, found)


def expand(paths: tuple[Path, ...]) -> list[Path]:
    """Files as they are, folders as the image files below them."""
    files: list[Path] = []
    for path in paths:
        below = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not below:
            raise click.ClickException(f"{path}: holds no JPEG, PNG or WebP file")
        files += below
    return files


def show_predictions(paths: list[Path], found: list[Prediction]) -> None:
    """A line for each image, and how the last call was computed."""
    table = Table(box=None)
    for column in ("image", "label", "probability", "then"):
        table.add_column(column, justify="right" if column == "probability" else "left")
    for path, one in zip(paths, found, strict=True):
        then = ", ".join(f"{label.name} {label.probability:.1%}" for label in one.labels[1:3])
        table.add_row(path.name, one.best.name, f"{one.best.probability:.1%}", then)
    console = Console(markup=False, highlight=False)
    console.print(table)
    run = found[-1].execution
    console.print(
        f"{found[-1].model} version {found[-1].version}, {run.precision} on {run.provider}, batch of {run.batch_rows}: "
        f"decode {1e3 * run.decode_seconds:.1f} ms, queue {1e3 * run.queue_seconds:.1f} ms, compute {1e3 * run.compute_seconds:.1f} ms"
    )


@main.command()
@url_option
@timeout_option
@json_option
@one_line_errors
def models(url: str, timeout: float, as_json: bool) -> None:
    """List the models a server has, and why those that are refused are."""
    with Client(url, timeout=timeout) as client:
        infos = client.models()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=2))
    else:
        Console(markup=False, highlight=False).print(models_table(infos))


def models_table(infos: list[ModelInfo]) -> Table:
    """A row for each version."""
    table = Table(box=None)
    for column in ("model", "version", "state", "precision", "provider", "input", "accuracy", "agreement", "parameters"):
        table.add_column(column)
    for info in infos:
        if not info.ready:
            table.add_row(info.name, info.version, f"REFUSED: {info.reason}")
            continue
        accuracy = "unknown" if info.accuracy is None else f"{info.accuracy:.2f} %"
        agreement = "UNCERTIFIED" if info.agreement is None else f"{info.agreement:.2%}"
        size = f"{info.input_size}x{info.input_size}"
        facts = (info.precision, info.provider.removesuffix("ExecutionProvider"), size, accuracy, agreement, f"{info.parameters:,}")
        table.add_row(info.name, info.version, "ready", *facts)
    return table
