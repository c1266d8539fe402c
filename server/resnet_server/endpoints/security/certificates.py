"""The server's certificate, its key and who signs those of clients: for gRPC and for HTTP, read again when the files change."""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from resnet_server.endpoints.security.watched_files import WatchedFiles
from resnet_server.errors import StartError
from resnet_server.settings import Settings


@dataclass(frozen=True)
class Chain:
    """What was read, in PEM form, and the same for Python's own TLS. `clients`: who signs clients' certificates; None: nobody is asked."""

    certificate: bytes
    key: bytes
    clients: bytes | None
    context: ssl.SSLContext

    def for_grpc(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.clients)


class Certificates:
    """Looks at the files at each handshake, which costs a thousand times what looking does. Raises StartError for wrong files."""

    def __init__(self, certificate: Path, key: Path, clients: Path | None, on_read: Callable[[bool], None] = lambda _: None) -> None:
        self._certificate, self._key, self._clients = certificate, key, clients
        paths = [path for path in (certificate, key, clients) if path is not None]
        self._files = WatchedFiles("tls", paths, self._read, on_read)
        self._told: Chain | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """For ports of gRPC. Clients without a certificate are turned away where `clients` is given."""
        self._told = self._files.current()
        fetch: Any = self._fetch  # the stubs do not know of None
        return grpc.dynamic_ssl_server_credentials(self._told.for_grpc(), fetch, self._clients is not None)

    def context(self) -> ssl.SSLContext:
        """For HTTP: each connection takes the chain as it is at that moment."""
        context = self._files.current().context

        def switch(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:  # called without a name, too
            current = self._files.current().context
            if current is not context:
                connection.context = current

        context.sni_callback = switch
        return context

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """None where nothing has changed; gRPC's core calls it at each handshake."""
        chain = self._files.current()
        if chain is self._told:
            return None
        self._told = chain
        return chain.for_grpc()

    def _read(self) -> Chain:
        certificate = _pem("tls-cert", self._certificate)
        key = _pem("tls-key", self._key)
        clients = None if self._clients is None else _pem("tls-client-ca", self._clients)
        return Chain(certificate, key, clients, self._context())

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (ssl.SSLError, ValueError, OSError) as error:
            reason = getattr(error, "reason", None) or str(error)
            raise StartError(f"tls-key: {self._key} is no key of {self._certificate}: {reason}") from None
        if self._clients is not None:
            self._ask_clients(context, self._clients)
        return context

    @staticmethod
    def _ask_clients(context: ssl.SSLContext, clients: Path) -> None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.options |= ssl.OP_NO_TICKET  # a session that is taken up again would not be asked for its certificate
        context.num_tickets = 0
        try:
            context.load_verify_locations(clients)
        except (ssl.SSLError, OSError) as error:
            raise StartError(f"tls-client-ca: {clients} holds no certificate that can be read: {error}") from None


def certificates_of(settings: Settings, on_read: Callable[[bool], None] = lambda _: None) -> Certificates | None:
    """As the settings say; None: no TLS. Raises StartError for half of a pair, and for wrong files."""
    cert, key, clients = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is not None and key is not None:
        return Certificates(cert, key, clients, on_read)
    if cert is not None or key is not None:
        given, missing = ("tls-cert", "tls-key") if cert is not None else ("tls-key", "tls-cert")
        raise StartError(f"{missing}: not given, but {given} is; they belong together")
    if clients is not None:
        raise StartError(f"tls-cert: not given, but tls-client-ca: {clients} is; clients are asked for certificates over TLS only")
    return None


def _no_password() -> bytes:
    raise ValueError("it is encrypted; expected a key without a password")


def _pem(field: str, path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StartError(f"{field}: {path} cannot be read: {error.strerror}") from None
    if b"-----BEGIN " not in data:
        raise StartError(f"{field}: {path} is not in PEM form")
    return data
