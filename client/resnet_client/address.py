"""What people write as the address of a server, and what gRPC makes of it."""

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from resnet_client.errors import InvalidInputError

DEFAULT_URL = "localhost:8001"
PLAIN_PORT, TLS_PORT = 8001, 443
SCHEMES = {"": False, "grpc": False, "http": False, "grpcs": True, "https": True}
"""Scheme to TLS."""
RESOLVED_BY_GRPC = ("dns:", "unix:", "unix-abstract:", "ipv4:", "ipv6:", "xds:", "vsock:")
HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_.])?")
EXPECTED = "expected host:port, several of them with commas, grpc://, grpcs://, http:// or https:// before it, dns:///name or unix:path"


@dataclass(frozen=True)
class Address:
    """`target` is gRPC's form; `authority` is what the calls name as their server, empty for gRPC's own choice."""

    target: str
    tls: bool
    balanced: bool = False
    authority: str = ""


def parse_url(url: str) -> Address:
    """Understand one address or several; raise InvalidInputError in one line for anything else."""
    text = url.strip()
    if text.startswith(RESOLVED_BY_GRPC):
        return Address(text, tls=False, balanced=text.startswith("dns:"))
    parts = [_parse_one(part.strip(), url) for part in text.split(",")]
    if len({tls for _, _, tls in parts}) > 1:
        raise invalid(url, "some addresses with TLS and some without; expected one kind")
    if len(parts) == 1:
        host, port, tls = parts[0]
        return Address(_join(host, port), tls)
    return Address(_addresses(parts, url), parts[0][2], balanced=True, authority=_join(*parts[0][:2]))


def invalid(url: str, text: str) -> InvalidInputError:
    """An error that names the value, clipped."""
    return InvalidInputError(f"url: {url[:100]!r}: {text}")


def _parse_one(text: str, url: str) -> tuple[str, int, bool]:
    if not text:
        raise invalid(url, f"empty; {EXPECTED}")
    try:
        split = urlsplit(text if "://" in text else f"//{text}")
        host, port = split.hostname or "", split.port
    except ValueError as error:
        raise invalid(url, f"{str(error)[:100]}; {EXPECTED}") from None
    if split.scheme not in SCHEMES:
        raise invalid(url, f"scheme {split.scheme!r} is unknown; {EXPECTED}")
    if split.path.strip("/") or split.query or split.fragment or "@" in split.netloc:
        raise invalid(url, "more than host and port; a gRPC address has no path, query or user")
    if port == 0 or not (HOST.fullmatch(host) or _is_ip(host)):
        raise invalid(url, EXPECTED)
    tls = SCHEMES[split.scheme]
    return host, port or (TLS_PORT if tls else PLAIN_PORT), tls


def _join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _addresses(parts: list[tuple[str, int, bool]], url: str) -> str:
    """The `ipv4:` or `ipv6:` list that gRPC balances over: it takes no list of names, so they are resolved here, once."""
    families = {socket.AF_INET: "ipv4:", socket.AF_INET6: "ipv6:"}
    found = [_resolve(host, port, url) for host, port, _ in parts]
    for family, scheme in families.items():
        if all(family in each for each in found):
            return scheme + ",".join(address for each in found for address in each[family])
    raise invalid(url, "some addresses are IPv4 only and some IPv6 only; expected one family, or one name (dns:///name)")


def _resolve(host: str, port: int, url: str) -> dict[int, list[str]]:
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise invalid(url, f"{host} cannot be resolved: {error.strerror}") from None
    found: dict[int, list[str]] = {}
    for family, _, _, _, where in infos:
        found.setdefault(family, []).append(_join(str(where[0]), port))
    return found
