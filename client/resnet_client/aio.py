"""The asyncio client."""

import asyncio
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import grpc
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

from resnet_client import messages
from resnet_client.channel import DEFAULT_TIMEOUT, DEFAULT_URL, OPTIONS
from resnet_client.errors import from_rpc
from resnet_client.messages import Image, Images, Logits
from resnet_client.results import ModelInfo, Prediction


class AsyncClient:
    """As `resnet_client.Client`, for asyncio; make it inside a running event loop and use it as an async context manager."""

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout: float = DEFAULT_TIMEOUT, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._channel = grpc.aio.secure_channel(url, credentials, OPTIONS) if credentials else grpc.aio.insecure_channel(url, OPTIONS)
        self._classifier: Any = ClassifierStub(self._channel)
        self._inference: Any = GRPCInferenceServiceStub(self._channel)
        self._infos: list[ModelInfo] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def classify(
        self,
        images: Sequence[Image],
        *,
        model: str = "",
        version: str = "",
        precision: str = "",
        top_k: int = 5,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """Classify encoded images (bytes, or files to read); one prediction each, in order. Raises ClientError."""
        encoded = await asyncio.to_thread(messages.read_images, images)
        deadline = self._deadline(timeout)
        limit = await self._row_limit(len(encoded), model, version, deadline)
        template = classifier_pb2.ClassifyRequest(model_name=model, model_version=version, precision=precision, top_k=top_k)
        requests = messages.classify_requests(encoded, template, limit)
        return messages.predictions(await self._all(self._classifier.Classify, requests, deadline))

    async def infer(
        self, images: Images, *, model: str = "", version: str = "", precision: str = "", timeout: float | None = None
    ) -> Logits:
        """Compute UINT8 [n, h, w, 3] to logits FP32 [n, classes] over the Open Inference Protocol. Raises ClientError."""
        deadline = self._deadline(timeout)
        limit = await self._row_limit(len(images), model, version, deadline)
        requests = messages.infer_requests(images, model, version, precision, limit)
        return messages.logits(await self._all(self._inference.ModelInfer, requests, deadline))

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Every version the server knows of, with what its certificate says. Raises ClientError."""
        return await self._list(self._deadline(timeout))

    async def ready(self, *, timeout: float | None = None) -> bool:
        """True if the server answers that every model is loaded; False if it does not answer."""
        request = open_inference_pb2.ServerReadyRequest()
        try:
            response = await self._inference.ServerReady(request, timeout=self.timeout if timeout is None else timeout)
        except grpc.RpcError:
            return False
        return bool(response.ready)

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    async def _row_limit(self, count: int, model: str, version: str, deadline: float) -> int:
        if count <= 1:
            return 1
        if self._infos is None:
            self._infos = await self._list(deadline)
        return messages.row_limit(self._infos, model, version)

    async def _list(self, deadline: float) -> list[ModelInfo]:
        (response,) = await self._all(self._classifier.ListModels, [classifier_pb2.ListModelsRequest()], deadline)
        self._infos = messages.model_infos(response)
        return self._infos

    async def _all(self, method: Any, requests: Sequence[Any], deadline: float) -> list[Any]:
        """Send all at once and wait for all; the first failure, or leaving, cancels the rest."""
        calls = [method(request, timeout=max(0.0, deadline - time.monotonic())) for request in requests]
        try:
            return [await call for call in calls]
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None
        finally:
            for call in calls:
                call.cancel()
