"""grpc.health.v1: of the server, of each model by its name, and whether the process lives.

Ours, since the library's knows nothing of engines, and the first of its watchers to leave deafens the others.
https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection

import grpc
from grpc_health.v1 import health_pb2 as pb

from resnet_server.endpoints.error_status import Context
from resnet_server.errors import shown
from resnet_server.models.registry import Registry

SERVICE = pb.DESCRIPTOR.services_by_name["Health"]
LIVENESS = "liveness"
MOST_WATCHERS = 1024
SERVING, NOT_SERVING, SERVICE_UNKNOWN = (
    int(pb.HealthCheckResponse.ServingStatus.Value(name)) for name in ("SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
)


class HealthService:
    """Answers for `""` and the names of `services`, for `liveness`, and for models: `resnet20` or, of one version, `resnet20/1`.

    `SERVING` for the first two kinds once every model is loaded and has an engine, for a model while it has one.
    """

    def __init__(self, registry: Registry, services: Collection[str], is_alive: Callable[[], bool]) -> None:
        self._registry = registry
        self._services = frozenset(("", *services))
        self._is_alive = is_alive
        self._watchers = 0
        self._changed = asyncio.Event()
        registry.watch(self._tell)

    async def Check(self, request: pb.HealthCheckRequest, context: Context) -> pb.HealthCheckResponse:
        """The status now; NOT_FOUND for a name that is neither a service nor a model."""
        status = self._status(request.service)
        if status == SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"service: '{shown(request.service)}' is neither a service nor a model")
        return pb.HealthCheckResponse(status=status)

    async def Watch(self, request: pb.HealthCheckRequest, context: Context) -> AsyncIterator[pb.HealthCheckResponse]:
        """The status now and after each change; ends when the server stops, so that nobody has to be cut off."""
        if self._watchers >= MOST_WATCHERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"Watch: {self._watchers} watch already; call Check instead")
        self._watchers += 1
        try:
            told = None
            while self._registry.state != "draining":
                changed, status = self._changed, self._status(request.service)
                if status != told:
                    yield pb.HealthCheckResponse(status=status)
                    told = status
                    continue  # it may have changed while that was sent
                await changed.wait()
            yield pb.HealthCheckResponse(status=NOT_SERVING)
        finally:
            self._watchers -= 1

    def _status(self, service: str) -> int:
        if service == LIVENESS:
            return SERVING if self._is_alive() else NOT_SERVING
        if service in self._services:
            return SERVING if self._registry.is_ready else NOT_SERVING
        name, _, version = service.rpartition("/") if "/" in service else (service, "", "")
        if not name:
            return SERVICE_UNKNOWN
        if self._registry.is_up(name, version):
            return SERVING
        return NOT_SERVING if self._registry.is_known(name, version) else SERVICE_UNKNOWN

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
