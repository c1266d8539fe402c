"""uvicorn and starlette on the event loop of the server: routes, one form of errors, and a start and stop in order."""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Iterator, Sequence

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from resnet_server.endpoints.http.calls import HttpError, caller_gone, http_error
from resnet_server.errors import ServingError, StartError

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


def application(routes: Sequence[BaseRoute]) -> Starlette:
    """The ASGI application; every error is `{"error": text}`."""
    return Starlette(
        routes=list(routes),
        exception_handlers={
            HttpError: _http_error,
            ServingError: _serving_error,
            ClientDisconnect: _gone,
            HTTPException: _framework_error,
            Exception: _unexpected,
        },
    )


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HttpError)  # noqa: S101  # registered for it
    return error.response()


async def _gone(request: Request, error: Exception) -> Response:
    """Who hung up in the middle of an upload: nobody reads this, and nothing is logged."""
    return caller_gone().response()


async def _serving_error(request: Request, error: Exception) -> Response:
    from resnet_server.endpoints.error_status import clipped, status_of

    assert isinstance(error, ServingError)  # noqa: S101  # registered for it
    return http_error(status_of(error)[0], clipped(str(error))).response()


async def _framework_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for it
    return JSONResponse({"error": f"{request.method} {request.url.path[:200]}: {error.detail}"}, error.status_code, error.headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    log.error("%s failed", request.url.path[:200], exc_info=error)
    return JSONResponse({"error": f"internal error: {type(error).__name__}; the server's log has more"}, 500)


class HttpServer:
    """Binds when made, so that a port in use is known at once; serves from `start` to `close`. `name`: of the port's option."""

    def __init__(
        self,
        application: ASGIApp,
        host: str,
        port: int,
        shared: bool = False,
        tls: ssl.SSLContext | None = None,
        name: str = "http-port",
    ) -> None:
        self._socket = _bind(host, port, shared, name)
        self.port: int = self._socket.getsockname()[1]
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            lifespan="off",
            h11_max_incomplete_event_size=1 << 16,
        )
        config.load()
        config.ssl = tls  # uvicorn itself takes files only, and reads them once
        self._server = _Embedded(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer requests."""
        self._task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))
        opened = asyncio.ensure_future(self._server.opened.wait())
        await asyncio.wait((self._task, opened), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        if self._task.done():
            await self._task

    async def close(self, seconds: float) -> None:
        """Take no more requests, and let the running ones end within `seconds`."""
        if self._task is None:
            self._socket.close()
            return
        self._server.config.timeout_graceful_shutdown = max(1, round(seconds))
        self._server.should_exit = True
        await self._task
        self._socket.close()


class _Embedded(uvicorn.Server):
    """Leaves signals alone, since the process that it lives in has its own order, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.opened = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See the class."""
        await super().startup(sockets)
        self.opened.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See the class."""
        yield


def _bind(host: str, port: int, shared: bool, name: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host.strip("[]"), port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StartError(f"{name}: {port} cannot be opened: {error.strerror}") from None
    return listening
