"""The gRPC side of one process: services on a port, health, and a door that closes in order."""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version as package_version

from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc
from resnet_proto import classifier_pb2, manifest_pb2, open_inference_pb2
from resnet_proto.classifier_pb2_grpc import add_ClassifierServicer_to_server
from resnet_proto.pool import pool_of

from resnet_server.endpoints.error_status import Border
from resnet_server.endpoints.grpc.classifier import ClassifierService
from resnet_server.endpoints.grpc.inference import InferenceService
from resnet_server.engines.device import available_cores
from resnet_server.errors import StartError
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.registry import Registry
from resnet_server.settings import Settings
from resnet_server.transport.api import Transport
from resnet_server.transport.choice import new_server

SERVICES = (
    open_inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name,
    classifier_pb2.DESCRIPTOR.services_by_name["Classifier"].full_name,
)

REFUSE_SECONDS = 0.25


def shown_files() -> DescriptorPool:
    """What reflection describes: our files, which are not in protobuf's default pool, and those of the standard services."""
    modules = (manifest_pb2, classifier_pb2, open_inference_pb2, health_pb2, reflection_pb2)
    return pool_of(module.DESCRIPTOR.serialized_pb for module in modules)


class Listener:
    """Binds the port when made, so that a port in use is known at once; serves from `start` on."""

    def __init__(self, settings: Settings, registry: Registry, metrics: Metrics, shared_port: bool = False) -> None:
        self._registry = registry
        self._drain_seconds = settings.drain_seconds
        limit = settings.max_message_bytes
        options = [("grpc.max_receive_message_length", limit), ("grpc.max_send_message_length", limit)]
        transport = new_server(settings.transport, [*options, ("grpc.so_reuseport", int(shared_port))])
        metrics.transport_info.labels(transport.name, transport.reason).set(1)
        self._server = transport.server
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the package has no stubs for it
        self._decoders = ThreadPoolExecutor(available_cores(), "decode")
        self._add_services(settings, transport, Border(metrics, time.monotonic))
        address = f"{settings.host}:{settings.grpc_port}"
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise StartError(f"grpc-port: {address} cannot be opened; is another server running there?") from None

    def _add_services(self, settings: Settings, transport: Transport, border: Border) -> None:
        InferenceService(self._registry, border, package_version("resnet-serving")).add_to(transport)
        classifier = ClassifierService(self._registry, border, self._decoders, settings.max_image_pixels, time.monotonic)
        add_ClassifierServicer_to_server(classifier, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        shown = reflection.aio.ReflectionServicer(names, pool=shown_files())  # type: ignore[attr-defined]  # no stubs
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(shown, self._server)

    async def start(self) -> None:
        """Open the door; every model in the registry is warm by now."""
        await self._server.start()
        self._registry.state = "ready"
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def close(self) -> None:
        """NOT_SERVING first, so that balancers look elsewhere; then refuse new calls, finish the running ones, and drain the models.

        For a moment new calls are answered UNAVAILABLE: once gRPC stops, those on their way are CANCELLED, which no client repeats.
        """
        await self._health.enter_graceful_shutdown()
        self._registry.state = "draining"
        await asyncio.sleep(REFUSE_SECONDS)
        await self._server.stop(self._drain_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._drain(), self._drain_seconds)
        await asyncio.gather(*(model.batcher.close() for model in self._registry.ready))

    async def _drain(self) -> None:
        await asyncio.gather(*(model.batcher.drain() for model in self._registry.ready))

    def abandon(self) -> None:
        """Free what the constructor made, started or not."""
        self._decoders.shutdown(wait=True, cancel_futures=True)
