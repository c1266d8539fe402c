"""The REST routes of what operators ask: log and trace settings, shared memory."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from google.protobuf.message import Message
from resnet_proto import open_inference_pb2 as pb
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from resnet_server.endpoints.http.body import read_body
from resnet_server.endpoints.http.infer_json import bad, parse_object
from resnet_server.endpoints.http.plain import plain

MOST_BODY_BYTES = 1 << 16
Endpoint = Callable[[Request], Awaitable[Response]]
Call = Callable[[Request, str, Message], Awaitable[Any]]
"""Runs a method of the gRPC service by its name."""


class RestOperations:
    """Answers by `call`."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def routes(self) -> list[BaseRoute]:
        """All routes."""
        traced = ("/v2", "/v2/models/{name}", "/v2/models/{name}/versions/{version}")
        return [
            Route("/v2/logging", self.log_settings, methods=["GET", "POST"]),
            *(Route(path, self._shared_memory(kind, act), methods=methods) for kind, act, path, methods in shared_memory_paths()),
            *(Route(f"{path}/trace/setting", self.trace_settings, methods=["GET", "POST"]) for path in traced),
        ]

    async def log_settings(self, request: Request) -> Response:
        """GET: as they are; POST: changed by `{"log_info": false}`, and as they are then."""
        message = pb.LogSettingsRequest()
        for name, value in (await self._document(request)).items():
            setting = message.settings[name]
            if isinstance(value, bool):
                setting.bool_param = value
            elif isinstance(value, int) and 0 <= value < 2**32:
                setting.uint32_param = value
            elif isinstance(value, str):
                setting.string_param = value
            elif value is not None:
                raise bad(f"settings.{name[:100]}", value, "a string, a number, true, false or null")
        answer = await self._call(request, "LogSettings", message)
        return JSONResponse({name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in answer.settings.items()})

    async def trace_settings(self, request: Request) -> Response:
        """GET: as they are; POST: the same, if what is asked for is that."""
        message = pb.TraceSettingRequest(model_name=request.path_params.get("name", ""))
        for name, value in (await self._document(request)).items():
            values = value if isinstance(value, list) else [] if value is None else [value]
            if not all(isinstance(item, (str, int)) and not isinstance(item, bool) for item in values):
                raise bad(f"settings.{name[:100]}", value, "a string, a number, a list of them, or null")
            message.settings[name].value.extend(map(str, values))
        answer = await self._call(request, "TraceSetting", message)
        settings = {name: list(setting.value) for name, setting in answer.settings.items()}
        return JSONResponse({name: value if name == "trace_level" else value[0] for name, value in settings.items()})

    def _shared_memory(self, kind: str, act: str) -> Endpoint:
        """Status as a list, register and unregister; the fields of the body are those of the gRPC request."""
        method = f"{kind}SharedMemory{act}"
        make: Any = getattr(pb, f"{method}Request")

        async def answer(request: Request) -> Response:
            document = await self._document(request)
            message = make(name=request.path_params.get("name", ""), **read_region(document) if act == "Register" else {})
            found = await self._call(request, method, message)
            return JSONResponse([plain(region) for region in found.regions.values()] if act == "Status" else {})

        return answer

    async def _document(self, request: Request) -> dict[str, Any]:
        body = await read_body(request, MOST_BODY_BYTES, lambda _: None) if request.method == "POST" else b""
        return parse_object(body) if body else {}


def shared_memory_paths() -> Iterator[tuple[str, str, str, list[str]]]:
    """Kind, act, path and HTTP methods of every route."""
    for kind in ("System", "Cuda"):
        base = f"/v2/{kind.lower()}sharedmemory"
        for act, methods in (("Status", ["GET"]), ("Unregister", ["POST"]), ("Register", ["POST"])):
            yield kind, act, f"{base}/region/{{name}}/{act.lower()}", methods
            if act != "Register":
                yield kind, act, f"{base}/{act.lower()}", methods


def read_region(document: dict[str, Any]) -> dict[str, Any]:
    """The fields of a region as a request has them; raises HttpError 400."""
    fields: dict[str, Any] = {}
    for name in ("offset", "byte_size", "device_id"):
        value = document.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
            raise bad(name, value, "a whole number")
        if name in document:
            fields[name] = value
    if "raw_handle" in document:  # of a GPU's memory, which no region can be
        fields["raw_handle"] = b""
    else:
        key = document.get("key")
        if not isinstance(key, str):
            raise bad("key", key, "the name of shared memory")
        fields["key"] = key
    return fields
