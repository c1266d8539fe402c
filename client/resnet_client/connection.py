"""How a connection is made: TLS, tokens, balancing and gRPC's options."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import grpc

from resnet_client.address import Address, invalid, parse_url
from resnet_client.errors import InvalidInputError

DEFAULT_TIMEOUT = 30.0
DEFAULT_WINDOW = 8

RETRY_BUFFER_BYTES = 64 << 20
"""gRPC itself repeats a call that the server surely did not take in (GOAWAY), if it still has the message: at most this much of it."""

RECONNECT_MS, MOST_RECONNECT_MS = 100, 2000
"""From an attempt to connect that failed to the next, and at most, as they go on failing. A server whose processes died is back within a
second; gRPC itself would wait for that long after the first failure, and for up to two minutes later."""

Options = list[tuple[str, str | int]]
Metadata: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
Token: TypeAlias = str | Callable[[], str]
Pem: TypeAlias = bytes | str | Path


@dataclass(frozen=True)
class TLS:
    """PEM files, or their bytes. `roots`: who signs the server's certificate (None: gRPC's own list).

    `certificate` and `key` are the client's own, both or neither. `server_name` is the name in the server's certificate where it is
    not the one in the address.
    """

    roots: Pem | None = None
    certificate: Pem | None = None
    key: Pem | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """What gRPC takes; raise InvalidInputError for a file that cannot be read or half a pair."""
        if (self.certificate is None) != (self.key is None):
            raise InvalidInputError("tls: certificate and key belong together; only one is given")
        return grpc.ssl_channel_credentials(_pem("roots", self.roots), _pem("key", self.key), _pem("certificate", self.certificate))


def _pem(field: str, value: Pem | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        data = Path(value).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"tls.{field}: {value} cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in data:
        raise InvalidInputError(f"tls.{field}: {value} is not in PEM form")
    return data


class Connection:
    """Where calls go and what goes with each; shared by both clients."""

    def __init__(self, url: str, tls: TLS | bool | None, token: Token | None, metadata: Metadata) -> None:
        self.url = url.strip()
        self.address = parse_url(url)
        self.tls = self._choose(tls)
        self._token = token
        self._metadata = tuple(_checked(metadata.items() if isinstance(metadata, Mapping) else metadata))
        self.metadata()

    def _choose(self, tls: TLS | bool | None) -> TLS | None:
        if tls is False and self.address.tls:
            raise invalid(self.url, "says TLS, tls=False does not")
        chosen = tls if isinstance(tls, TLS) else TLS() if tls or self.address.tls else None
        if chosen and self.address.authority and not chosen.server_name:
            raise invalid(self.url, "several addresses with TLS need tls.server_name, the name in their certificates")
        return chosen

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with a call; a token that is a function is asked for each."""
        if self._token is None:
            return self._metadata
        token = self._token if isinstance(self._token, str) else self._token()
        if not token.strip() or not token.strip().isascii() or not token.strip().isprintable():
            raise InvalidInputError("token: empty, or holds characters that a header cannot carry")
        return (*self._metadata, ("authorization", f"Bearer {token.strip()}"))

    def options(self) -> Options:
        """Channel arguments."""
        found: Options = [
            ("grpc.max_send_message_length", -1),  # the server's limit decides, and its answer names it
            ("grpc.max_receive_message_length", -1),
            ("grpc.per_rpc_retry_buffer_size", RETRY_BUFFER_BYTES),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", MOST_RECONNECT_MS),
            ("grpc.service_config", json.dumps({"loadBalancingConfig": [{_policy(self.address): {}}]})),
        ]
        if self.tls and self.tls.server_name:
            found.append(("grpc.ssl_target_name_override", self.tls.server_name))
        elif self.address.authority:
            found.append(("grpc.default_authority", self.address.authority))
        return found

    def channel(self) -> grpc.Channel:
        """A channel for threads."""
        target, options = self.address.target, self.options()
        return grpc.secure_channel(target, self.tls.credentials(), options) if self.tls else grpc.insecure_channel(target, options)

    def aio_channel(self) -> grpc.aio.Channel:
        """A channel for the running event loop."""
        target, options = self.address.target, self.options()
        return grpc.aio.secure_channel(target, self.tls.credentials(), options) if self.tls else grpc.aio.insecure_channel(target, options)


def _policy(address: Address) -> str:
    return "round_robin" if address.balanced else "pick_first"


def _checked(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    for key, value in pairs:
        name = key.lower()
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii() or name.startswith("grpc-"):
            raise InvalidInputError(f"metadata: {key[:100]!r} is no name of a header; expected letters, digits, '-', '_' and '.'")
        if not value.isascii() or not value.isprintable():
            raise InvalidInputError(f"metadata.{name}: {value[:100]!r}; expected printable ASCII")
        yield name, value
