"""Where the server listens, in the forms that people write: names, IPv4, IPv6 with brackets or without, and Unix sockets."""

import socket
import stat
from pathlib import Path

from resnet_server.errors import StartError

UNIX = "unix:"
LOOPBACK = "127.0.0.1"


def is_unix(host: str) -> bool:
    """True for `unix:/path`."""
    return host.startswith(UNIX)


def bare(host: str) -> str:
    """A host as sockets take it: IPv6 without brackets; of a Unix socket's server, the loopback, where its metrics are."""
    return LOOPBACK if is_unix(host) else host.removeprefix("[").removesuffix("]")


def written(host: str, port: int) -> str:
    """Host and port as gRPC and people write them: `0.0.0.0:8001`, `[::]:8001`, `unix:/path`."""
    if is_unix(host):
        return host
    plain = bare(host)
    return f"[{plain}]:{port}" if ":" in plain else f"{plain}:{port}"


def check_unix(host: str) -> None:
    """Raise StartError for a Unix socket that cannot be made, or that another server listens on, whose file gRPC would replace."""
    path = Path(host.removeprefix(UNIX).removeprefix("//"))
    if not path.parent.is_dir():
        raise StartError(f"host: {host}: {path.parent} is not a folder")
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise StartError(f"host: {host} is a file, not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return
    raise StartError(f"host: {host} cannot be opened; is another server running there?")
