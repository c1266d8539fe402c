"""The metrics as calls are: over TLS, for whoever has a token of scope `read`."""

import contextlib
import socket
import socketserver
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from resnet_server.endpoints.error_status import status_of
from resnet_server.endpoints.http.calls import STATUS
from resnet_server.endpoints.security.access import Judge, access_of
from resnet_server.endpoints.security.certificates import certificates_of
from resnet_server.errors import ServingError, StartError
from resnet_server.settings import Settings

SILENT_SECONDS = 10.0
"""For a handshake, and for a request: whoever says nothing holds a thread for so long."""


class SecuredMetrics(socketserver.ThreadingMixIn, WSGIServer):
    """Serves the metrics of `registry`; raises OSError where the port cannot be opened, StartError for settings that secure nothing."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, settings: Settings, host: str, port: int, registry: CollectorRegistry) -> None:
        certificates, access = certificates_of(settings), access_of(settings)
        if certificates is None and not access.has_tokens:
            raise StartError("secure-metrics: given, but neither --tls-cert nor --tokens is; expected one of them")
        self._context = None if certificates is None else certificates.context()
        self.address_family = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        super().__init__((host, port), _Silent)
        self.set_app(guarded(make_wsgi_app(registry), access.judge_of("/metrics")))

    def server_bind(self) -> None:
        """Without looking the host's name up, which takes its time."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "metrics", self.server_address[1]
        self.setup_environ()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The handshake is done by the connection's own thread."""
        request.settimeout(SILENT_SECONDS)
        if self._context is not None:
            try:
                request = self._context.wrap_socket(request, server_side=True)
            except OSError:  # no TLS, no certificate, or gone
                with contextlib.suppress(OSError):
                    request.close()
                return
        super().process_request_thread(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever hangs up in the middle is no news."""


class _Silent(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the name is the base class's
        pass


def guarded(application: Callable[..., Iterable[bytes]], judge: Judge | None) -> Callable[..., Iterable[bytes]]:
    """WSGI: asks `judge` first."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        given = environ.get("HTTP_AUTHORIZATION")
        try:
            if judge is not None:
                judge([] if given is None else [("authorization", given)])
        except ServingError as error:
            status = STATUS[status_of(error)[0]]
            headers = [("Content-Type", "text/plain; charset=utf-8"), *([("WWW-Authenticate", "Bearer")] if status == 401 else [])]
            start_response(f"{status} Refused", headers)
            return [str(error).encode()]
        return application(environ, start_response)

    return answer
