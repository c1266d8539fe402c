"""The Open Inference Protocol's GRPCInferenceService: the core, and the repository index."""

from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceServicer

from resnet_server.codec import DATATYPE, check_outputs, decode_rows, encode_answer
from resnet_server.errors import InvalidRequestError, ModelNotFoundError, ModelUnavailableError
from resnet_server.registry import Registry, ServedModel
from resnet_server.services.status import Border, Context

EXTENSIONS = ("binary_tensor_data", "classification", "parameters")


class InferenceService(GRPCInferenceServiceServicer):
    """Tensors in, logits out; the messages are described in `open_inference.proto`."""

    def __init__(self, registry: Registry, border: Border, version: str) -> None:
        self._registry = registry
        self._border = border
        self._version = version

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

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """Compute one request; see `codec` for what is checked."""
        async with self._border.call("ModelInfer", context) as call:
            model = self._registry.find(request.model_name, request.model_version, precision_parameter(request))
            call.model, call.version = model.name, model.version
            rows = decode_rows(request, model.manifest, model.batcher.max_batch)
            top_k = check_outputs(request, model.manifest)
            deadline = self._border.deadline(context, timeout_parameter(request))
            answer = await model.infer(rows, deadline)
            return encode_answer(request, model, answer.logits, top_k)
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
        platform = f"onnxruntime_{model.provider}_{model.precision}" + ("" if model.certified else "_UNCERTIFIED")
        response = pb.ModelMetadataResponse(name=model.name, versions=versions, platform=platform, properties=model.properties)
        response.inputs.add(name=spec.name, datatype=DATATYPE, shape=(-1, spec.height, spec.width, 3))
        response.outputs.add(name=output.name, datatype="FP32", shape=(-1, output.classes))
        return response


def timeout_parameter(request: pb.ModelInferRequest) -> int | None:
    """The `timeout` parameter in microseconds; raise InvalidRequestError unless it is a positive integer."""
    if "timeout" not in request.parameters:
        return None
    parameter = request.parameters["timeout"]
    kind = parameter.WhichOneof("parameter_choice")
    value = parameter.uint64_param if kind == "uint64_param" else parameter.int64_param
    if kind not in ("int64_param", "uint64_param") or value <= 0:
        shown = getattr(parameter, kind) if kind else "nothing"
        raise InvalidRequestError(f"parameters.timeout: {shown!r} as {kind}; expected a positive int64_param in microseconds")
    return value


def precision_parameter(request: pb.ModelInferRequest) -> str:
    """The `precision` parameter, empty if absent; raise InvalidRequestError unless it is a string."""
    if "precision" not in request.parameters:
        return ""
    kind = request.parameters["precision"].WhichOneof("parameter_choice")
    if kind != "string_param":
        raise InvalidRequestError(f"parameters.precision: is {kind}; expected string_param")
    return request.parameters["precision"].string_param
