"""The Open Inference Protocol's GRPCInferenceService: the core, and the repository index."""

from functools import lru_cache

import grpc
from google.protobuf.message_factory import GetMessageClass
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceServicer

from resnet_server.endpoints.error_status import Border, Call, Context
from resnet_server.endpoints.grpc.direct import DirectInference
from resnet_server.endpoints.grpc.known_requests import Checked, KnownRequests, parse
from resnet_server.endpoints.parameters import read_parameters
from resnet_server.endpoints.tensors import DATATYPE, AnswerEncoder, check_outputs, decode_rows
from resnet_server.engines.api import Images
from resnet_server.errors import ModelNotFoundError, ModelUnavailableError
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.transport.call import Call as DirectContext
from resnet_server.transport.server import QueueServer

EXTENSIONS = ("binary_tensor_data", "classification", "parameters")
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class InferenceService(GRPCInferenceServiceServicer):
    """Tensors in, logits out; the messages are described in `open_inference.proto`."""

    def __init__(self, registry: Registry, border: Border, version: str) -> None:
        self._registry = registry
        self._border = border
        self._version = version
        self._encoder = lru_cache(AnswerEncoder)
        self._known_requests = KnownRequests()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods; ModelInfer's messages stay in serialised form, and where the server can do it, it is direct."""
        handlers = {"ModelInfer": grpc.unary_unary_rpc_method_handler(self.ModelInfer)}
        for method in SERVICE.methods:
            if method.name not in handlers:
                reads, writes = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
                behaviour = getattr(self, method.name)
                handlers[method.name] = grpc.unary_unary_rpc_method_handler(behaviour, reads.FromString, writes.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),))
        if isinstance(server, QueueServer):
            server.add_direct_method(f"/{SERVICE.full_name}/ModelInfer", self.infer_directly)

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

    async def ModelInfer(self, message: bytes, context: Context) -> bytes:  # type: ignore[override]  # both serialised
        """Compute one request, both messages in serialised form; see `codec` for what is checked."""
        async with self._border.call("ModelInfer", context) as call:
            checked, rows = self._understand(message, call)
            deadline = self._border.deadline(context, checked.parameters.timeout_us)
            answer = await checked.model.infer(rows, deadline, checked.parameters.priority)
            return self._encoder(checked.model).encode(checked.identity, answer.logits, checked.top_k)
        raise AssertionError("unreachable: the border aborts")

    def infer_directly(self, message: bytes, context: DirectContext) -> None:
        """What `ModelInfer` does, without an event loop."""
        call = self._border.call("ModelInfer", context)
        try:
            checked, rows = self._understand(message, call)
            deadline = self._border.deadline(context, checked.parameters.timeout_us)
            DirectInference(self._border, call, context, checked, self._encoder(checked.model)).begin(rows, deadline)
        except Exception as error:  # the border knows what each is worth to the caller, as for `ModelInfer`
            context.refuse(*self._border.refusal(call, error))

    def _understand(self, message: bytes, call: Call) -> tuple[Checked, Images]:
        self._registry.check_open()
        checked, rows = self._known_requests.recognise(message) or self._read(message, call)
        call.model, call.version = checked.model.name, checked.model.version
        return checked, rows

    def _read(self, message: bytes, call: Call) -> tuple[Checked, Images]:
        request = parse(message)
        parameters = read_parameters(request)
        model = self._registry.find(request.model_name, request.model_version, parameters.precision)
        call.model, call.version = model.name, model.version
        rows = decode_rows(request, model.manifest, model.batcher.limits.max_request)
        checked = Checked(model, parameters, request.id, check_outputs(request, model.manifest), rows.shape)
        self._known_requests.remember(message, request, checked)
        return checked, rows

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
        platform = f"onnxruntime_{model.info.provider}_{model.precision}" + ("" if model.info.certified else "_UNCERTIFIED")
        response = pb.ModelMetadataResponse(name=model.name, versions=versions, platform=platform, properties=model.properties)
        response.inputs.add(name=spec.name, datatype=DATATYPE, shape=(-1, spec.height, spec.width, 3))
        response.outputs.add(name=output.name, datatype="FP32", shape=(-1, output.classes))
        return response
