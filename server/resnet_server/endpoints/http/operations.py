"""The REST routes of what operators ask: log and trace settings, shared memory."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from resnet_proto import open_inference_pb2 as pb
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from resnet_server.endpoints.http.body import read_body
from resnet_server.endpoints.http.infer_json import bad, parse_object

MOST_BODY_BYTES = 1 << 16
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

    async def _document(self, request: Request) -> dict[str, Any]:
        body = await read_body(request, MOST_BODY_BYTES, lambda _: None) if request.method == "POST" else b""
        return parse_object(body) if body else {}
