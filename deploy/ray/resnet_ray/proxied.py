"""The Open Inference Protocol through Serve's gRPC proxy: `serve run deploy/ray/proxied.yaml`.

Serve finds a method by the last part of its path, so a class with the protocol's methods is the service. The proxy does not pass the
deadline of a call on: callers that have one send the protocol's parameter `timeout`, in microseconds, which our server knows.
"""

import asyncio
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from ray import serve
from resnet_proto import open_inference_pb2 as oip

from resnet_ray.arguments import Arguments
from resnet_ray.server_process import ServerProcess

SERVICE = "/inference.GRPCInferenceService"
LARGEST_MESSAGE = 64 << 20
Answer = TypeVar("Answer", bound=Message)


class OpenInference:
    """One server of ours, and the protocol's methods, each passed on to it as it came."""

    def __init__(self, arguments: Arguments) -> None:
        self._server = ServerProcess(arguments.command("127.0.0.1"))
        options = [("grpc.max_receive_message_length", LARGEST_MESSAGE), ("grpc.max_send_message_length", LARGEST_MESSAGE)]
        self._channel = grpc.aio.insecure_channel(self._server.address, options=options)

    async def ServerLive(self, request: oip.ServerLiveRequest, grpc_context: Any) -> oip.ServerLiveResponse:  # noqa: N802
        """Pass it on."""
        return await self._pass_on("ServerLive", request, oip.ServerLiveResponse, grpc_context)

    async def ServerReady(self, request: oip.ServerReadyRequest, grpc_context: Any) -> oip.ServerReadyResponse:  # noqa: N802
        """Pass it on."""
        return await self._pass_on("ServerReady", request, oip.ServerReadyResponse, grpc_context)

    async def ServerMetadata(self, request: oip.ServerMetadataRequest, grpc_context: Any) -> oip.ServerMetadataResponse:  # noqa: N802
        """Pass it on."""
        return await self._pass_on("ServerMetadata", request, oip.ServerMetadataResponse, grpc_context)

    async def ModelReady(self, request: oip.ModelReadyRequest, grpc_context: Any) -> oip.ModelReadyResponse:  # noqa: N802
        """Pass it on."""
        return await self._pass_on("ModelReady", request, oip.ModelReadyResponse, grpc_context)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, grpc_context: Any) -> oip.ModelMetadataResponse:  # noqa: N802
        """Pass it on."""
        return await self._pass_on("ModelMetadata", request, oip.ModelMetadataResponse, grpc_context)

    async def ModelInfer(self, request: oip.ModelInferRequest, grpc_context: Any) -> oip.ModelInferResponse:  # noqa: N802
        """Pass it on; a caller who leaves is cancelled at the server, too."""
        return await self._pass_on("ModelInfer", request, oip.ModelInferResponse, grpc_context)

    async def check_health(self) -> None:
        """Serve asks this now and then, and starts the replica again when it raises."""
        await asyncio.to_thread(self._server.check)

    def __del__(self) -> None:
        """Drain, end; Serve calls this once every call has been answered, Python when the replica could not start."""
        if server := getattr(self, "_server", None):
            server.stop()

    async def _pass_on(self, method: str, request: Message, answer: type[Answer], context: Any) -> Answer:
        call = self._channel.unary_unary(f"{SERVICE}/{method}", type(request).SerializeToString, answer.FromString)
        try:
            passed: Answer = await call(request)
            return passed
        except grpc.aio.AioRpcError as error:
            # Set and returned, not raised: Serve writes a traceback for whatever is raised, and refusals are no surprise.
            context.set_code(error.code())
            context.set_details(error.details())
            context.set_trailing_metadata(list(error.trailing_metadata() or ()))
            return answer()


def application(given: dict[str, Any]) -> serve.Application:
    """What `import_path: resnet_ray.proxied:application` builds; `given` as in Arguments."""
    arguments = Arguments.of(given)
    # Our batches form inside the replica: fewer calls at once than two full batches would starve it (Serve's default is 5).
    deployment = serve.deployment(OpenInference).options(
        name="resnet",
        num_replicas=arguments.replicas,
        max_ongoing_requests=arguments.ongoing,
        max_queued_requests=4 * arguments.ongoing,
        ray_actor_options={"num_cpus": arguments.cpus, "num_gpus": arguments.gpus},
        health_check_period_s=1,
        health_check_timeout_s=10,
        graceful_shutdown_timeout_s=40,
        # A line for every call costs more than many of our calls.
        logging_config={"enable_access_log": False},
    )
    built: serve.Application = deployment.bind(arguments)
    return built
