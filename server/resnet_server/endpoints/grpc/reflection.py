"""grpc.reflection.v1alpha: the library's, with streams that end when the server stops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME
from resnet_proto import classifier_pb2, manifest_pb2, open_inference_pb2
from resnet_proto.pool import pool_of

from resnet_server.endpoints.error_status import Context
from resnet_server.endpoints.grpc.methods import bounded

METHOD = "ServerReflectionInfo"


def shown_files() -> DescriptorPool:
    """What reflection describes: our files, which are not in protobuf's default pool, and those of the standard services."""
    modules = (manifest_pb2, classifier_pb2, open_inference_pb2, health_pb2, reflection_pb2)
    return pool_of(module.DESCRIPTOR.serialized_pb for module in modules)


class ReflectionService:
    """Lists the services of these names; tools such as grpcurl keep its stream open for as long as they like."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._library: Any = reflection.aio.ReflectionServicer((*names, SERVICE_NAME), pool=shown_files())  # type: ignore[attr-defined]  # no stubs
        self._closing = asyncio.Event()

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the method."""
        handler = grpc.stream_stream_rpc_method_handler(self.reflect, readable, reflection_pb2.ServerReflectionResponse.SerializeToString)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE_NAME, {METHOD: handler}),))

    async def reflect(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        """An answer to each request, until the caller or the server has enough."""
        async with contextlib.aclosing(self._library.ServerReflectionInfo(self._until_closing(requests), context)) as answers:
            async for answer in answers:
                yield answer

    def close(self) -> None:
        """End all streams."""
        self._closing.set()

    async def _until_closing(self, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(requests, None))
                await asyncio.wait((coming, closing), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    return
                request = coming.result()
                if request is None:
                    return
                yield request
        finally:
            closing.cancel()


def readable(message: bytes) -> Any:
    """The request; an empty one, which the library answers as invalid, for what cannot be read: `grpc.aio` would log a traceback."""
    try:
        return bounded(reflection_pb2.ServerReflectionRequest.FromString)(message)
    except (DecodeError, ValueError):
        return reflection_pb2.ServerReflectionRequest()
