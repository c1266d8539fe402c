"""The Open Inference Protocol's GRPCInferenceService: the core, and the repository index."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import grpc
from google.protobuf.message_factory import GetMessageClass
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceServicer

from resnet_server.codec import DATATYPE, AnswerEncoder, check_outputs, decode_rows
from resnet_server.errors import InvalidRequestError, ModelNotFoundError, ModelUnavailableError
from resnet_server.queueing import NORMAL, PRIORITIES
from resnet_server.registry import Registry, ServedModel
from resnet_server.services.status import Border, Context

EXTENSIONS = ("binary_tensor_data", "classification", "parameters")
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class InferenceService(GRPCInferenceServiceServicer):
    """Tensors in, logits out; the messages are described in `open_inference.proto`."""

    def __init__(self, registry: Registry, border: Border, version: str) -> None:
        self._registry = registry
        self._border = border
        self._version = version
        self._encoder = lru_cache(AnswerEncoder)

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods; ModelInfer's answers come serialised."""
        handlers = {}
        for method in SERVICE.methods:
            reads, writes = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
            serialise = None if method.name == "ModelInfer" else writes.SerializeToString
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(getattr(self, method.name), reads.FromString, serialise)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True while the process answers."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """True once every model is warm, until draining."""
        return pb.ServerReadyResponse(ready=self._registry.state == "ready")

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """True if the model is served; NOT_FOUND if no such model is published."""
        async with self._border.call("ModelReady", context):
            try:
                self._registry.find(request.name, request.version)
            except ModelUnavailableError:
                return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version and the extensions that work."""
        return pb.ServerMetadataResponse(name="resnet-serving", version=self._version, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs; the platform names the provider and precision that compute."""
        async with self._border.call("ModelMetadata", context) as call:
            model = self._registry.find(request.name, request.version)
            call.model, call.version = model.name, model.version
            return self._metadata(model)
        raise AssertionError("unreachable: the border aborts")

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> bytes:  # type: ignore[override]  # serialised
        """Compute one request, and answer with the serialised message; see `codec` for what is checked."""
        async with self._border.call("ModelInfer", context) as call:
            parameters = read_parameters(request)
            model = self._registry.find(request.model_name, request.model_version, parameters.precision)
            call.model, call.version = model.name, model.version
            rows = decode_rows(request, model.manifest, model.batcher.limits.max_request)
            top_k = check_outputs(request, model.manifest)
            deadline = self._border.deadline(context, parameters.timeout_us)
            answer = await model.infer(rows, deadline, parameters.priority)
            return self._encoder(model).encode(request, answer.logits, top_k)
        raise AssertionError("unreachable: the border aborts")

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every version found in the repository with its state."""
        async with self._border.call("RepositoryIndex", context):
            if request.repository_name:
                raise ModelNotFoundError(f"repository_name: '{request.repository_name}' is unknown; expected it empty")
        response = pb.RepositoryIndexResponse()
        for name, version in dict.fromkeys((model.name, model.version) for model in self._registry.ready):
            response.models.add(name=name, version=version, state="READY")
        for refused in [] if request.ready else self._registry.refused:
            response.models.add(name=refused.name, version=refused.version, state="UNAVAILABLE", reason=refused.reason)
        return response

    def _metadata(self, model: ServedModel) -> pb.ModelMetadataResponse:
        spec, output = model.manifest.input, model.manifest.output
        versions = sorted({other.version for other in self._registry.ready if other.name == model.name}, key=int)
        platform = f"onnxruntime_{model.facts.provider}_{model.precision}" + ("" if model.facts.certified else "_UNCERTIFIED")
        response = pb.ModelMetadataResponse(name=model.name, versions=versions, platform=platform, properties=model.properties)
        response.inputs.add(name=spec.name, datatype=DATATYPE, shape=(-1, spec.height, spec.width, 3))
        response.outputs.add(name=output.name, datatype="FP32", shape=(-1, output.classes))
        return response


@dataclass(frozen=True)
class Parameters:
    """The request parameters that the server knows; others are ignored, as the protocol asks."""

    precision: str = ""
    timeout_us: int | None = None
    priority: int = NORMAL


NONE_GIVEN = Parameters()


def read_parameters(request: pb.ModelInferRequest) -> Parameters:
    """`precision` (a string), `timeout` (microseconds) and `priority` (1 first, 3 last, 0 the default).

    Raises InvalidRequestError naming the parameter, its value and what was expected.
    """
    given = request.parameters
    if not given:
        return NONE_GIVEN
    timeout = _whole_number(given, "timeout", "a positive int64_param in microseconds")
    if timeout is not None and timeout <= 0:
        raise InvalidRequestError(f"parameters.timeout: {timeout}; expected a positive int64_param in microseconds")
    expected = f"0 to {max(PRIORITIES)} as int64_param: 1 goes first, 0 is the default"
    priority = _whole_number(given, "priority", expected) or NORMAL
    if priority not in PRIORITIES:
        raise InvalidRequestError(f"parameters.priority: {priority}; expected {expected}")
    return Parameters(_precision(given), timeout, priority)


def _whole_number(given: "Mapping[str, pb.InferParameter]", name: str, expected: str) -> int | None:
    if name not in given:
        return None
    parameter = given[name]
    kind = parameter.WhichOneof("parameter_choice")
    if kind == "int64_param":
        return parameter.int64_param
    if kind == "uint64_param":
        return parameter.uint64_param
    shown = getattr(parameter, kind) if kind else "nothing"
    raise InvalidRequestError(f"parameters.{name}: {shown!r} as {kind}; expected {expected}")


def _precision(given: "Mapping[str, pb.InferParameter]") -> str:
    if "precision" not in given:
        return ""
    kind = given["precision"].WhichOneof("parameter_choice")
    if kind != "string_param":
        raise InvalidRequestError(f"parameters.precision: is {kind}; expected string_param")
    return given["precision"].string_param
