"""Health without TLS and without tokens on ports of its own, for whoever probes a server that asks callers for certificates."""

import asyncio

from starlette.routing import BaseRoute

from resnet_server.endpoints.address import bare, written
from resnet_server.endpoints.grpc import health
from resnet_server.endpoints.grpc.health import HealthService
from resnet_server.endpoints.grpc.methods import add_service
from resnet_server.endpoints.http.server import HttpServer, application
from resnet_server.errors import StartError
from resnet_server.settings import Settings
from resnet_server.transport.choice import new_server


class Probes:
    """Binds when made; `port` and `http_port` are 0 where the settings want none. Nothing but health is answered there."""

    def __init__(self, settings: Settings, service: HealthService, routes: list[BaseRoute], shared_port: bool) -> None:
        self._server = None
        self._http: HttpServer | None = None
        self.port = self.http_port = 0
        host = bare(settings.host)
        if settings.health_port is not None:
            self._server = new_server(settings.transport, [("grpc.so_reuseport", int(shared_port))]).server
            add_service(self._server, health.SERVICE, service)
            address = written(host, settings.health_port)
            try:
                self.port = self._server.add_insecure_port(address)
            except RuntimeError:
                raise StartError(f"health-port: {address} cannot be opened; is another server running there?") from None
        if settings.health_http_port is not None:
            self._http = HttpServer(application(routes), host, settings.health_http_port, shared_port, name="health-http-port")
            self.http_port = self._http.port

    async def start(self) -> None:
        """Answer."""
        if self._server is not None:
            await self._server.start()
        if self._http is not None:
            await self._http.start()

    async def close(self, seconds: float) -> None:
        """Stop within `seconds`."""
        closing = [self._server.stop(seconds)] if self._server is not None else []
        await asyncio.gather(*closing, *([self._http.close(seconds)] if self._http is not None else []))
