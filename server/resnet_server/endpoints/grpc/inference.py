"""The Open Inference Protocol's GRPCInferenceService: the core."""

from collections.abc import Sequence
from typing import Any, Protocol

from resnet_proto import open_inference_pb2 as pb

from resnet_server.endpoints.error_status import Border, Context
from resnet_server.endpoints.grpc.door import Door
from resnet_server.endpoints.grpc.methods import add_service, behaviour_of
from resnet_server.endpoints.grpc.model_infer import ModelInfer
from resnet_server.endpoints.grpc.stream_infer import StreamInferService
from resnet_server.endpoints.shared_memory import SharedRegions
from resnet_server.endpoints.tensors import DATATYPE
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.transport.api import Transport


class Extension(Protocol):
    """A servicer of some methods of the service; `names` are those that ServerMetadata lists for it."""

    @property
    def names(self) -> tuple[str, ...]:
        """See the class."""


EXTENSIONS = ("binary_tensor_data", "classification", "parameters")
SERVICE = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class InferenceService:
    """Liveness, readiness and metadata, beside `ModelInfer`; the messages are described in `open_inference.proto`.

    `extensions` have the other methods.
    """

    def __init__(
        self,
        registry: Registry,
        border: Border,
        door: Door,
        version: str,
        extensions: Sequence[Extension] = (),
        regions: SharedRegions | None = None,
    ) -> None:
        self._registry = registry
        self._border = border
        self.door = door
        self._version = version
        self.model_infer = ModelInfer(border, door, regions)
        self._extensions = (*extensions, StreamInferService(registry, self.model_infer, self.model_infer.further))

    def add_to(self, transport: Transport) -> None:
        """Register all methods."""
        transport.add_direct_method(f"/{SERVICE.full_name}/ModelInfer", self.model_infer)
        add_service(transport.server, SERVICE, self, *self._extensions, serialised=("ModelStreamInfer",))

    def method(self, name: str) -> Any:
        """The method of that name, an extension's or of the core; None where the server does not have it."""
        return behaviour_of(name, (self, *self._extensions))

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """True while the process can go on, loading and draining included; False once a batcher is deadlocked."""
        return pb.ServerLiveResponse(live=self.door.is_alive)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """True once every model is warm, while every one has an engine, until draining."""
        return pb.ServerReadyResponse(ready=self._registry.is_ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """True while the model is served and has an engine; False for an unknown one, too."""
        async with self._border.call("ModelReady", context):
            return pb.ModelReadyResponse(ready=self._registry.is_up(request.name, request.version))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """Name, version and the extensions that work."""
        return pb.ServerMetadataResponse(name="resnet-serving", version=self._version, extensions=self._names())

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Inputs and outputs; the platform names the provider and precision that compute."""
        async with self._border.call("ModelMetadata", context) as call:
            model = self._registry.find(request.name, request.version)
            call.model, call.version = model.name, model.version
            return self._metadata(model)

    def _names(self) -> list[str]:
        return sorted({*EXTENSIONS, *(name for extension in self._extensions for name in extension.names)})

    def _metadata(self, model: ServedModel) -> pb.ModelMetadataResponse:
        spec, output = model.manifest.input, model.manifest.output
        versions = sorted({other.version for other in self._registry.ready if other.name == model.name}, key=int)
        response = pb.ModelMetadataResponse(name=model.name, versions=versions, platform=model.info.platform, properties=model.properties)
        response.inputs.add(name=spec.name, datatype=DATATYPE, shape=(-1, spec.height, spec.width, spec.channels or 3))
        response.outputs.add(name=output.name, datatype="FP32", shape=(-1, output.classes))
        return response
