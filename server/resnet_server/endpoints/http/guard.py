"""The guard of `endpoints.security` before the routes of HTTP: each asks for what the method behind it asks for."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from resnet_server.endpoints.http.calls import http_error
from resnet_server.endpoints.security.access import CLASSIFIER, OIP
from resnet_server.transport.api import Guard

OPEN = ("/", "/openapi.json", "/page")
"""The page and its files, which hold nothing of the models."""

RPC_OF = {
    "/v2": "ServerMetadata",
    "/v2/health/live": "ServerLive",
    "/v2/health/ready": "ServerReady",
    "/v2/models/stats": "ModelStatistics",
    "/v2/repository/index": "RepositoryIndex",
    "/v2/repository/models/{name}/load": "RepositoryModelLoad",
    "/v2/repository/models/{name}/unload": "RepositoryModelUnload",
    "/v2/logging": "LogSettings",
    "/v2/trace/setting": "TraceSetting",
    **{
        f"/v2/models/{{name}}{version}{path}": rpc
        for version in ("", "/versions/{version}")
        for path, rpc in (
            ("", "ModelMetadata"),
            ("/ready", "ModelReady"),
            ("/infer", "ModelInfer"),
            ("/stats", "ModelStatistics"),
            ("/config", "ModelConfig"),
            ("/trace/setting", "TraceSetting"),
        )
    },
    **{
        f"/v2/{kind}sharedmemory{region}/{path}": f"{kind.capitalize()}SharedMemory{path.capitalize()}"
        for kind in ("system", "cuda")
        for region in ("", "/region/{name}")
        for path in ("status", "register", "unregister")
    },
}
"""Methods of the protocol by the path of their route. A route that is nowhere here asks for the scope `admin`."""

OTHERS = {"/classify": CLASSIFIER + "Classify", "/models": CLASSIFIER + "ListModels"}


def method_of(route: BaseRoute) -> str:
    """The path of the gRPC method whose guard a route has; empty for one without."""
    path = route.path if isinstance(route, Route | Mount) else ""
    return "" if path in OPEN else OTHERS.get(path) or OIP + RPC_OF.get(path, path.rpartition("/")[2])


class GuardedApplication:
    """ASGI: turns requests away before their bodies are read."""

    def __init__(self, application: ASGIApp, routes: Sequence[BaseRoute], guard: Guard) -> None:
        self._application = application
        found = ((route, guard(method)) for route in routes if (method := method_of(route)))
        self._entries = [(route, entry) for route, entry in found if entry is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http":
            entry = next((entry for route, entry in self._entries if route.matches(scope)[0] is Match.FULL), None)
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]] if entry is not None else []
            refused = None if entry is None else entry(headers)
            if refused is not None:
                await http_error(*refused).response()(scope, receive, send)
                return
        await self._application(scope, receive, send)
