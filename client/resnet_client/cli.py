"""Command line `resnet-client`."""

import functools
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from resnet_client import show
from resnet_client.address import DEFAULT_URL
from resnet_client.blocking import Client
from resnet_client.connection import DEFAULT_TIMEOUT, DEFAULT_WINDOW, TLS
from resnet_client.errors import ClientError
from resnet_client.files import find_images
from resnet_client.results import Outcome

P = ParamSpec("P")
R = TypeVar("R")

PATH = click.Path(path_type=Path, exists=True, dir_okay=False)
PROGRESS_FROM = 32
"""Images; fewer are answered before a bar would help."""

CONNECTION = (
    click.option(
        "--url",
        default=DEFAULT_URL,
        envvar="RESNET_CLIENT_URL",
        show_envvar=True,
        help="host:port, several with commas, or with grpc://, grpcs://, http://, https:// or dns:/// before it.",
    ),
    click.option("--timeout", type=click.FloatRange(0, min_open=True), default=DEFAULT_TIMEOUT, help="Seconds for each call."),
    click.option("--tls", is_flag=True, help="Encrypt, as grpcs:// does."),
    click.option("--ca", type=PATH, help="PEM file of who signs the server's certificate; implies --tls."),
    click.option("--cert", type=PATH, help="PEM file with the client's certificate; implies --tls."),
    click.option("--key", type=PATH, help="PEM file with the key of --cert."),
    click.option("--server-name", default="", help="Name in the server's certificate, if it is not that in --url."),
    click.option("--token", envvar="RESNET_CLIENT_TOKEN", help="Bearer token  [env var: RESNET_CLIENT_TOKEN]"),
    click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Goes with every call; may be repeated."),
)


def connecting(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a connection; the command is given a client, and a failed call is one line and exit status 1."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        try:
            with _client(options) as client:
                command(client, **options)
        except ClientError as error:
            raise click.ClickException(str(error)) from None
        except BrokenPipeError:  # `| head`: the reader has what it wants
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  # Python flushes it at exit
            raise SystemExit(1) from None

    for option in reversed(CONNECTION):
        wrapped = option(wrapped)
    return wrapped


def _client(options: dict[str, Any]) -> Client:
    ca, cert, key, name = (options.pop(option) for option in ("ca", "cert", "key", "server_name"))
    chosen: TLS | bool | None = TLS(ca, cert, key, name) if ca or cert or key or name else options.pop("tls") or None
    options.pop("tls", None)
    pairs = [pair.partition("=") for pair in options.pop("metadata")]
    metadata = [(key, value) for key, _, value in pairs]
    window = options.pop("window", DEFAULT_WINDOW)
    named = {option: options.pop(option) for option in ("url", "timeout", "token")}
    return Client(**named, tls=chosen, metadata=metadata, window=window)


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Classify images with a running resnet-server."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # its own log lines say what our one line says


@main.command()
@click.argument("images", type=click.Path(path_type=Path, exists=True), nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", default="", help="Model name  [default: the only one served]")
@click.option("--version", default="", help="Version  [default: the highest]")
@click.option("--precision", default="", help="One that is loaded  [default: the model's default]")
@click.option("--top-k", type=click.IntRange(min=0), default=0, help="Labels per image; 0: five, or all where there are fewer.")
@click.option("--window", type=click.IntRange(min=1), default=DEFAULT_WINDOW, help="Calls in flight.")
@click.option("--json", "form", flag_value="json", help="A JSON list, for programs.")
@click.option("--csv", "form", flag_value="csv", help="Comma-separated values, a line a label.")
@click.option("--quiet", is_flag=True, help="No progress bar and no notes.")
@connecting
def classify(client: Client, images: tuple[Path, ...], form: str | None, quiet: bool, **asked: Any) -> None:
    """Classify image files, and all images in folders.

    A file that fails is named on standard error and the others are answered; the exit status is then 1.
    """
    errors = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    found = find_images(images)
    if found.skipped and not quiet:
        errors.print(found.note())
    failed: list[Outcome] = []
    with _progress(len(found.images), errors, quiet or (form is not None and sys.stdout.isatty())) as progress:
        outcomes = _watched(client.classify_stream(found.images, **asked), progress, len(found.images), failed)
        {"json": show.as_json, "csv": show.as_csv}.get(form or "", show.as_table)(outcomes)
    for outcome in failed:
        errors.print(f"Error: {outcome.error}")
    if failed:
        if len(found.images) > 1:
            errors.print(f"{len(failed)} of {len(found.images)} images failed")
        raise SystemExit(1)


def _progress(count: int, errors: Console, quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = quiet or count < PROGRESS_FROM or not errors.is_terminal
    return Progress(*columns, console=errors, transient=True, disable=disable, redirect_stdout=False)  # answers go where they were sent


def _watched(outcomes: Iterator[Outcome], progress: Progress, total: int, failed: list[Outcome]) -> Iterator[Outcome]:
    task = progress.add_task("classify", total=total)
    for outcome in outcomes:
        progress.advance(task)
        if outcome.error is not None:
            failed.append(outcome)
        yield outcome
    progress.stop()  # before a table is printed over it


@main.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@connecting
def models(client: Client, as_json: bool) -> None:
    """List the models a server has, and why those that are refused are."""
    infos = client.models()
    if as_json:
        click.echo(json.dumps([asdict(info) for info in infos], indent=2))
    else:
        show.console().print(show.models_table(infos))
