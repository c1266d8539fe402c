"""Command line `resnet-server`."""

import errno
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from resnet_server.build_form import build_form
from resnet_server.endpoints.security.tokens import SCOPES, add_line, line_of, new_token
from resnet_server.errors import ServingError, StartError
from resnet_server.option_types import PORT, SHARE, GpuNumbers, GroupOf, Names, OptionalPort, Seconds, SharesOf, Versions, option
from resnet_server.planning.plan_cache import default_folder
from resnet_server.processes.logs import set_up_logging
from resnet_server.settings import Settings
from resnet_server.transport.grpc_core import choose_listener

DEFAULTS = Settings(Path())
CONTEXT = {"auto_envvar_prefix": "RESNET_SERVER", "show_default": True}
REPORT_WIDTH = 120
FEWEST_DESCRIPTORS, MOST_DESCRIPTORS = 1024, 65_536
F = TypeVar("F", bound=Callable[..., Any])


@click.group()
@click.version_option(package_name="resnet-serving", message=f"%(prog)s, version %(version)s ({build_form()})")
def main() -> None:
    """Serve certified residual networks over gRPC."""


def options(*declared: Callable[[F], F]) -> Callable[[F], F]:
    """Several options as one decorator, shown in the order given."""

    def decorate(function: F) -> F:
        for declare in reversed(declared):
            function = declare(function)
        return function

    return decorate


WHAT = options(
    option(
        "--repository",
        metavar="DIR|URL",
        required=True,
        help="Folder that resnet-export publishes to, or its copy: s3://, gs://, hf:// ...",
    ),
    option(
        "--repository-cache",
        type=click.Path(path_type=Path),
        default=default_folder().with_name("repositories"),
        help="Folder for what is fetched from a URL.",
        show_default="~/.cache",
    ),
    option(
        "--repository-cache-bytes",
        type=click.IntRange(1 << 20),
        default=DEFAULTS.repository_cache_bytes,
        help="Most that it takes.",
    ),
    option("--models", default="", help="Comma-separated names, of groups, too  [default: all in the repository, and all groups]"),
    option(
        "--group",
        "groups",
        type=GroupOf(),
        multiple=True,
        envvar="RESNET_SERVER_GROUP",
        help="Serve these models under one name: each batch is answered by the most accurate that is in time. May be repeated.",
    ),
    option(
        "--weights",
        type=SharesOf("weights"),
        multiple=True,
        envvar="RESNET_SERVER_WEIGHTS",
        help="Share calls that name no version out among versions, such as resnet20=3:0.9,4:0.1. May be repeated.",
    ),
    option(
        "--shadow",
        "shadows",
        type=SharesOf("shadow"),
        multiple=True,
        envvar="RESNET_SERVER_SHADOW",
        help="Send copies of a share of the calls to a version, such as resnet20=5:0.2, and compare. May be repeated.",
    ),
    option(
        "--versions",
        type=Versions(),
        default=DEFAULTS.versions,
        help="Which versions to serve of each model: the latest, the N latest, all, or numbers.",
    ),
    option(
        "--precision",
        default=DEFAULTS.precision,
        help="auto: the fastest certified one, as measured at load; or some of fp32,fp16,int8, the first being the default.",
    ),
    option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        help="auto: CUDA where a session really runs on it; cuda: an error where none does.",
    ),
    option(
        "--runtime",
        type=click.Choice(["auto", "onnxruntime", "openvino"]),
        default=DEFAULTS.runtime,
        help="What computes on the CPU. auto: OpenVINO where it is installed, measures faster and holds the certificate.",
    ),
    option("--devices", type=GpuNumbers(), default="", help="GPUs, such as 0,1: one engine each  [default: all]", show_default=False),
    option(
        "--allow-uncertified",
        is_flag=True,
        help="For experiments: serve models whose certificate does not hold; log, metadata and metrics say so.",
    ),
    option(
        "--require-policy",
        type=Names(),
        default="",
        help="Serve only what holds these policies of this release, such as strict,int8, whatever its publisher chose.",
    ),
    option("--require-signature", default="", metavar="KEY", help="Serve only what this public key, or sigstore:IDENTITY,ISSUER, signed."),
)
HOW = options(
    option("--engines", type=click.IntRange(1, 1024), help="Engines a model  [default: as measured]"),
    option("--threads", type=click.IntRange(1, 1024), help="Threads an engine  [default: as measured]"),
    option("--max-batch", type=click.IntRange(1, 4096), default=DEFAULTS.max_batch, help="Rows of a request, and at most of a batch."),
    option("--latency-target", type=Seconds(), help="Longest batch that a plan may use, such as 20ms  [default: none]"),
    option("--plan-seconds", type=Seconds(), default=DEFAULTS.plan_seconds, help="Time to measure plans, for each model."),
    option(
        "--plan-cache",
        type=click.Path(path_type=Path),
        default=default_folder(),
        help="Folder where plans are kept.",
        show_default="~/.cache/resnet-serving/plans",
    ),
)
FILE = click.Path(path_type=Path)
SECURITY = options(
    option("--tls-cert", type=FILE, help="Certificate chain in PEM form: gRPC and REST speak TLS. Read again when it changes."),
    option("--tls-key", type=FILE, help="Key of --tls-cert, without a password."),
    option("--tls-client-ca", type=FILE, help="Who signs clients' certificates; clients without one are turned away."),
    option(
        "--tokens", type=FILE, help="File of bearer tokens, as `token` writes it: nobody else infers or reads. Read again when it changes."
    ),
    option("--secure-metrics", is_flag=True, help="Metrics as calls: over TLS, and for tokens of scope read."),
    option("--open-admin", is_flag=True, help="Without --tokens: let everybody load, unload, register memory and change settings."),
    option("--allow-shared-memory", is_flag=True, help="Let callers on this machine register shared memory for tensors."),
    option("--reflection/--no-reflection", default=True, help="Tell tools such as grpcurl what methods there are."),
)
CONNECTIONS = options(
    option(
        "--compression",
        type=click.Choice(["none", "gzip"]),
        default="none",
        help="gzip: compress answers of 1 KiB and more, by gzip or deflate, for callers that take it; logits hardly shrink, JSON does.",
    ),
    option("--keepalive-time", type=Seconds(), help="Ping callers after this time without traffic  [default: gRPC's 2 h]"),
    option(
        "--keepalive-timeout", type=Seconds(), help="Close a connection whose ping is not answered within this  [default: gRPC's 1 min]"
    ),
    option("--keepalive-least", type=Seconds(), help="Least time between two pings of a caller that has no call  [default: gRPC's 5 min]"),
    option(
        "--max-connection-age",
        type=Seconds(),
        help="Have callers connect anew after it, within 10 %, so that balancers spread them  [default: never]",
    ),
    option("--max-connection-age-grace", type=Seconds(), help="Time that running calls have after it  [default: none: until they end]"),
    option("--max-concurrent-streams", type=click.IntRange(1), help="Calls at once on a connection; others wait  [default: any]"),
)
RECORDS = options(
    option("--access-log", default="", metavar="FILE|-", help="One JSON line a call; -: to stdout  [default: none]"),
    option("--access-log-share", type=SHARE, default=1.0, help="Share of the answered calls that are written; calls that fail always are."),
    option("--traces", default="", metavar="FILE|otlp", help="OpenTelemetry spans; otlp: as OTEL_EXPORTER_OTLP_... say  [default: none]"),
    option(
        "--trace-share",
        type=SHARE,
        default=0.01,
        help="Share of the calls without a trace context that are traced; a trace context decides for its own call.",
    ),
)
LOG_LEVEL = option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="Log to stderr.")


@main.command(context_settings=CONTEXT)
@WHAT
@option(
    "--model-control",
    type=click.Choice(["none", "explicit", "poll"]),
    default=DEFAULTS.model_control,
    help="explicit: callers may load and unload models; poll: changes of the repository are taken in.",
)
@option(
    "--poll-seconds", type=Seconds(), default=DEFAULTS.poll_seconds, help="Between two looks at the repository, with --model-control poll."
)
@option("--host", default=DEFAULTS.host, help="Address to listen on: a name, IPv4, IPv6, or unix:/path for a Unix socket.")
@option("--metrics-host", default="", help="Address of the metrics  [default: that of --host; of a Unix socket 127.0.0.1]")
@option("--grpc-port", type=PORT, default=DEFAULTS.grpc_port, help="0: any free port.")
@option("--http-port", type=OptionalPort(), default="8000", help="REST and the page. 0: any free port; off: none.")
@option("--metrics-port", type=OptionalPort(), default="8002", help="Prometheus, /metrics. 0: any free port; off: none.")
@option("--health-port", type=OptionalPort(), help="Health over gRPC without TLS and tokens, for probes. 0: any free port  [default: none]")
@option("--health-http-port", type=OptionalPort(), help="The same over HTTP: /v2/health/live and ready  [default: none]")
@SECURITY
@CONNECTIONS
@RECORDS
@HOW
@option(
    "--engine-mode",
    type=click.Choice(["auto", "process", "thread"]),
    default="auto",
    help="auto: each engine in a process of its own on CPU; thread: in the server's, for development.",
)
@option(
    "--transport",
    type=click.Choice(["auto", "queue", "asyncio"]),
    default="auto",
    help="queue: on the completion queue of gRPC's core; asyncio: grpc.aio; auto: queue for gRPC versions it was tested with.",
)
@option("--frontends", type=click.IntRange(1, 64), help="Processes that answer calls  [default: one for 8 cores]")
@option("--target", type=Seconds(), help="For groups: time to answer where a request has no deadline, such as 50ms  [default: none]")
@option("--max-delay", type=Seconds(zero=True), help="How long a batch may wait for more rows  [default: as the cost model says]")
@option("--max-queue-rows", type=click.IntRange(1), default=DEFAULTS.max_queue_rows, help="Rows that may wait; more are refused.")
@option(
    "--max-message-bytes",
    type=click.IntRange(1, 2**31 - 1),
    default=DEFAULTS.max_message_bytes,
    help="Larger messages are refused before they are gathered, which would hold up every other call.",
)
@option(
    "--max-held-bytes",
    type=click.IntRange(1 << 20),
    default=DEFAULTS.max_held_bytes,
    help="Memory that callers can make the server hold: half for messages, half for images in decoding.",
)
@option("--cache-bytes", type=click.IntRange(0), default=0, help="Memory for answers to tensors that come again; 0: none are kept.")
@option(
    "--max-image-pixels",
    type=click.IntRange(1),
    default=DEFAULTS.max_image_pixels,
    help="Larger images are refused before they are decoded.",
)
@option(
    "--drain-seconds",
    type=click.FloatRange(0),
    default=DEFAULTS.drain_seconds,
    help="After SIGTERM, calls, front ends and engines end within this.",
)
@LOG_LEVEL
def serve(models: str, log_level: str, **given: object) -> None:
    """Serve every certified model of a repository until SIGTERM."""
    run(make_settings(models, log_level, given))


@main.command(context_settings=CONTEXT)
@option("--repository", type=click.Path(path_type=Path), help="Another one  [default: the bundled networks]")
@option("--models", type=Names(), default="resnet20,resnet56", help="What to serve of it.")
@option("--grpc-port", type=PORT, default=DEFAULTS.grpc_port, help="0: any free port.")
@option("--http-port", type=PORT, default=8000, help="REST and the page. 0: any free port.")
@option("--metrics-port", type=PORT, default=DEFAULTS.metrics_port, help="Prometheus, /metrics. 0: any free port.")
@option("--plan-seconds", type=Seconds(), default=1.0, help="Time to measure plans, for each model.")
@option("--stop", is_flag=True, help="End after the pictures are classified.")
def demo(repository: Path | None, models: tuple[str, ...], stop: bool, **given: Any) -> None:
    """Serve the bundled networks on this machine, classify the bundled pictures, and say what is done."""
    from resnet_server.demo import Demo, bundled_repository, finish

    set_up_logging("WARNING")
    try:
        folder = repository or bundled_repository()
    except StartError as error:
        raise click.ClickException(str(error)) from None
    shown = Demo(folder, models, stop, Console(width=None if sys.stdout.isatty() else REPORT_WIDTH))
    shown.begin()
    run(Settings(folder, host="127.0.0.1", models=models, plan_cache=default_folder(), **given), shown.listening)
    finish(shown)


@main.command(context_settings=CONTEXT)
@WHAT
@HOW
@option("--fresh", is_flag=True, help="Measure even where a plan is kept.")
@LOG_LEVEL
def plan(models: str, log_level: str, fresh: bool, **given: object) -> None:
    """Print the plan of every certified model as `serve` would choose it, without serving.

    The certificate is not replayed here: `serve` does that, and takes the next best precision where it does not hold.
    """
    from resnet_server.plan_command import print_plans  # ONNX Runtime: not needed for --help

    try:
        print_plans(make_settings(models, log_level, given), fresh, Console(width=None if sys.stdout.isatty() else REPORT_WIDTH))
    except ServingError as error:
        raise click.ClickException(str(error)) from None


@main.command(context_settings=CONTEXT)
@click.argument("name")
@option("--scope", "scopes", multiple=True, type=click.Choice(SCOPES), required=True, help="What it may do; may be repeated.")
@option("--calls", metavar="N/s", help="Most calls: 50/s, 1000/min or 20000/h  [default: any]")
@option("--rows", metavar="N/s", help="Most images, likewise  [default: any]")
@option("--append", type=FILE, help="The file of --tokens: its line is written there, and only the token is printed.")
def token(name: str, scopes: tuple[str, ...], append: Path | None, **rates: str | None) -> None:
    """Make a bearer token for NAME and the line that makes it known to a server.

    The token itself is shown this once: the line holds its SHA-256.
    """
    made = new_token()
    try:
        line = line_of(name, made, scopes, {kind: rate for kind, rate in rates.items() if rate is not None})
        if append is not None:
            add_line(append, line)
    except StartError as error:
        raise click.ClickException(str(error)) from None
    click.echo(made if append is not None else f"token: {made}\nline:  {line}")


def make_settings(models: str, log_level: str, given: dict[str, object]) -> Settings:
    """Settings from options that click has checked; logging to stderr begins here."""
    set_up_logging(log_level.upper())
    place = str(given.pop("repository"))
    where = {"repository": Path(), "remote": place} if "://" in place else {"repository": Path(place)}
    given |= where
    return Settings(models=tuple(name.strip() for name in models.split(",") if name.strip()), **given)  # type: ignore[arg-type]  # click has checked the types


def run(settings: Settings, announce: Callable[[str], None] = click.echo) -> None:
    """Run the server in a fresh event loop; exit with status 1 and one line if it cannot start.

    `announce` gets the line that says where it listens.
    """
    for name in (signal.SIGTERM, signal.SIGINT):  # until the event loop listens: the imports take a second, and process 1 has no default
        signal.signal(name, _stop_early)
    raise_descriptors()
    choose_listener()
    from resnet_server.app import serve as serve_app  # ONNX Runtime and gRPC: not needed for --help
    from resnet_server.processes.event_loop import run as run_loop

    try:
        run_loop(serve_app(settings, announce))
    except StartError as error:
        raise click.ClickException(str(error)) from None
    except OSError as error:
        if error.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        raise click.ClickException(f"the limit of {limit} open files is too low; raise it (ulimit -n, LimitNOFILE) to 1024") from None


def raise_descriptors() -> None:
    """Take as many descriptors as the system allows: each connection is one, and the usual soft limit is 1,024 of a million."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < FEWEST_DESCRIPTORS:
        text = f"the limit of {wanted} open files is low: an engine takes up to 6 and a connection 1; raise it to {FEWEST_DESCRIPTORS}"
        click.echo(f"Warning: {text} (ulimit -n, LimitNOFILE)", err=True)


def _stop_early(*_: object) -> None:
    click.echo("stopped before the start", err=True)
    sys.exit(0)
