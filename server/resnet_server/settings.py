"""Settings of one server, as the command line and the environment give them."""

from dataclasses import dataclass
from pathlib import Path

from resnet_proto.limits import MAX_MESSAGE_BYTES

MEBIBYTE = 1 << 20
ENDING_SECONDS = 3.0
"""For front ends and engines to end after the last answer; most take a tenth of it."""


@dataclass(frozen=True)
class Group:
    """Models that answer together under the name of one: for each batch the most accurate that is in time."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True)
class Shares:
    """Shares of versions in the calls to a model, by version."""

    name: str
    shares: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Settings:
    """`repository` is a folder: where `remote` is a URL, it is the mirror of that, below `repository_cache`.

    Ports may be 0 for any free one; seconds and bytes as the names say; None lets the server choose.
    """

    repository: Path
    remote: str = ""
    repository_cache: Path = Path()
    repository_cache_bytes: int = 16384 * MEBIBYTE
    host: str = "0.0.0.0"  # noqa: S104  # a server in a container is reached from outside it
    metrics_host: str = ""
    grpc_port: int = 8001
    http_port: int | None = 8000
    metrics_port: int | None = 8002
    health_port: int | None = None
    health_http_port: int | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    secure_metrics: bool = False
    open_admin: bool = False
    allow_shared_memory: bool = False
    reflection: bool = True
    cache_bytes: int = 0
    access_log: str = ""
    access_log_share: float = 1.0
    traces: str = ""
    trace_share: float = 0.01
    compression: str = "none"
    keepalive_time: float | None = None
    keepalive_timeout: float | None = None
    keepalive_least: float | None = None
    max_connection_age: float | None = None
    max_connection_age_grace: float | None = None
    max_concurrent_streams: int | None = None
    device: str = "auto"
    devices: tuple[int, ...] = ()
    precision: str = "auto"
    runtime: str = "auto"
    versions: str = "latest"
    models: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    weights: tuple[Shares, ...] = ()
    shadows: tuple[Shares, ...] = ()
    target: float | None = None
    model_control: str = "none"
    poll_seconds: float = 15.0
    engine_mode: str = "auto"
    transport: str = "auto"
    frontends: int | None = None
    engines: int | None = None
    threads: int | None = None
    latency_target: float | None = None
    plan_seconds: float = 5.0
    plan_cache: Path | None = None
    max_delay: float | None = None
    max_batch: int = 64
    max_queue_rows: int = 2048
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_held_bytes: int = 1024 * MEBIBYTE
    max_image_pixels: int = 50_000_000
    drain_seconds: float = 20.0
    allow_uncertified: bool = False
    require_policy: tuple[str, ...] = ()
    require_signature: str = ""

    @property
    def metrics_at(self) -> str:
        """Host of the metrics: where calls are answered, unless they are given one of their own."""
        return self.metrics_host or self.host

    @property
    def answer_seconds(self) -> float:
        """Of `drain_seconds`, what calls have to be answered; in the rest processes end."""
        return self.drain_seconds - min(ENDING_SECONDS, self.drain_seconds / 2)


def parse_duration(text: str, zero: bool = False) -> float:
    """Seconds of `50ms`, `2s`, or a number of seconds; raises ValueError for anything else, and for 0 unless `zero`."""
    number, unit = (text.strip()[:-2], 1e-3) if text.strip().endswith("ms") else (text.strip().removesuffix("s"), 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not (0 <= seconds < float("inf")) or (seconds == 0 and not zero):
        raise ValueError(f"'{text[:100]}'; expected a duration such as 50ms or 2s")
    return seconds
