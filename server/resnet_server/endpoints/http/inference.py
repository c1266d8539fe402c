"""The REST routes of the Open Inference Protocol (kserve/open-inference-protocol, `inference_rest.md`), with Triton's extensions."""

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message
from resnet_proto import open_inference_pb2 as pb
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from resnet_server.endpoints.grpc.inference import InferenceService
from resnet_server.endpoints.http.body import read_body
from resnet_server.endpoints.http.calls import HttpContext, HttpError, as_context, call_direct, call_method
from resnet_server.endpoints.http.infer_json import HEADER_LENGTH, RestRequest, bad, parse_object, raw_request, read_request, write_response
from resnet_server.endpoints.http.plain import plain
from resnet_server.models.registry import Registry

MOST_CONTROL_BYTES = 1 << 16
MODEL_PATHS = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
Endpoint = Callable[[Request], Awaitable[Response]]


class RestInference:
    """Answers by the gRPC service; `limit`: bytes of a body, decompressed."""

    def __init__(self, service: InferenceService, registry: Registry, limit: int) -> None:
        self._service = service
        self._registry = registry
        self._limit = limit

    def routes(self) -> list[BaseRoute]:
        """All routes; what the service does not have is answered 501."""
        routes = [
            Route("/v2", self._get(pb.ServerMetadataRequest, "ServerMetadata")),
            *self.health_routes(),
            Route("/v2/repository/index", self._index, methods=["POST"]),
            Route("/v2/models/stats", self._get(pb.ModelStatisticsRequest, "ModelStatistics")),
            Route("/v2/repository/models/{name}/load", self._control(pb.RepositoryModelLoadRequest, "Load"), methods=["POST"]),
            Route("/v2/repository/models/{name}/unload", self._control(pb.RepositoryModelUnloadRequest, "Unload"), methods=["POST"]),
        ]
        for path in MODEL_PATHS:
            routes += [
                Route(path, self._get(pb.ModelMetadataRequest, "ModelMetadata")),
                Route(path + "/infer", self.infer, methods=["POST"]),
                Route(path + "/stats", self._get(pb.ModelStatisticsRequest, "ModelStatistics")),
                Route(path + "/config", self._config),
            ]
        return routes

    def health_routes(self) -> list[BaseRoute]:
        """What probes ask; part of `routes`."""
        return [
            Route("/v2/health/live", self._flag(pb.ServerLiveRequest, "ServerLive", "live")),
            Route("/v2/health/ready", self._flag(pb.ServerReadyRequest, "ServerReady", "ready")),
            *(Route(path + "/ready", self._flag(pb.ModelReadyRequest, "ModelReady", "ready")) for path in MODEL_PATHS),
        ]

    async def infer(self, request: Request) -> Response:
        """One inference; JSON or binary, both ways."""
        read = await self._read(request)
        answer = await call_direct(self._service.model_infer, read.message.SerializeToString(), HttpContext(request), request)
        body, headers = write_response(pb.ModelInferResponse.FromString(answer), read.binary)
        return Response(body, headers=headers)

    async def _read(self, request: Request) -> RestRequest:
        name, version = request.path_params["name"], request.path_params.get("version", "")
        with self._service.door.reading() as hold:
            body = await read_body(request, self._limit, hold)
        header_length = request.headers.get(HEADER_LENGTH)
        if header_length is not None and header_length.strip("0") == "" and header_length:
            spec = self._registry.find(name, version).manifest.input
            return raw_request(body, name, version, spec.name, (spec.height, spec.width, spec.channels or 3))
        return read_request(body, header_length, name, version)

    async def call(self, request: Request, method: str, message: Message) -> Any:
        """The answer of a method of the gRPC service; raises HttpError."""
        behaviour = self._service.method(method)
        if behaviour is None:
            raise HttpError(501, f"{method}: is not available in this server")
        return await call_method(behaviour(message, as_context(HttpContext(request))), request)

    def _get(self, make: type[Message], method: str) -> Endpoint:
        async def answer(request: Request) -> Response:
            return JSONResponse(plain(await self.call(request, method, make(**request.path_params))))

        return answer

    def _flag(self, make: type[Message], method: str, field: str) -> Endpoint:
        """The status says it, as clients look at nothing else; the body says it, too."""

        async def answer(request: Request) -> Response:
            yes = getattr(await self.call(request, method, make(**request.path_params)), field)
            return JSONResponse({field: yes, **request.path_params}, 200 if yes else 503)

        return answer

    async def _config(self, request: Request) -> Response:
        answer = await self.call(request, "ModelConfig", pb.ModelConfigRequest(**request.path_params))
        return JSONResponse(plain(answer.config))

    async def _index(self, request: Request) -> Response:
        body = await read_body(request, MOST_CONTROL_BYTES, lambda _: None)
        ready = parse_object(body).get("ready", False) if body else False
        if not isinstance(ready, bool):
            raise bad("ready", ready, "true or false")
        answer = await self.call(request, "RepositoryIndex", pb.RepositoryIndexRequest(ready=ready))
        return JSONResponse([plain(model) for model in answer.models])

    def _control(self, make: type[Message], verb: str) -> Endpoint:
        async def answer(request: Request) -> Response:
            body = await read_body(request, MOST_CONTROL_BYTES, lambda _: None)
            message = make(model_name=request.path_params["name"])
            _set_parameters(message, body)
            await self.call(request, f"RepositoryModel{verb}", message)
            return JSONResponse({})

        return answer


def _set_parameters(message: Any, body: bytes) -> None:
    """`{"parameters": {...}}`, if there is a body; raises HttpError 400."""
    given = parse_object(body).get("parameters") if body else None
    if given is None:
        return
    if not isinstance(given, dict):
        raise bad("parameters", given, "an object")
    for name, value in given.items():
        parameter = message.parameters[name]
        if isinstance(value, bool):
            parameter.bool_param = value
        elif isinstance(value, str):
            parameter.string_param = value
        else:
            raise bad(f"parameters.{name[:100]}", value, "a string, true or false")
