"""The asyncio client."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
from resnet_proto.classifier_pb2 import ClassifyRequest, ListModelsRequest
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2 import ModelInferRequest, ServerReadyRequest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

from resnet_client import jobs, messages
from resnet_client.address import DEFAULT_URL
from resnet_client.aio_job import AsyncJob
from resnet_client.connection import DEFAULT_TIMEOUT, DEFAULT_WINDOW, TLS, Connection, Metadata, Token
from resnet_client.errors import InvalidInputError
from resnet_client.inputs import Image, Images, Item, Parts, Pixels, each_image, is_in_memory, load
from resnet_client.messages import NO_IMAGES, Asked, Logits
from resnet_client.results import ModelInfo, Outcome, Prediction
from resnet_client.rows import Arrays, RowParts, Rows, each_array, is_single

AsyncImages: TypeAlias = "Images | AsyncIterable[Image]"
AsyncArrays: TypeAlias = "Arrays | AsyncIterable[Pixels]"


class AsyncClient:
    """As `resnet_client.Client`, for asyncio; make it inside a running event loop and use it as an async context manager.

    Images may also come from an async iterable. Files are read and arrays encoded on threads.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        tls: TLS | bool | None = None,
        token: Token | None = None,
        metadata: Metadata = (),
        window: int = DEFAULT_WINDOW,
    ) -> None:
        self._connection = Connection(url, tls, token, metadata)
        self.url = self._connection.url
        self.timeout = timeout
        self.window = window
        self._channel = self._connection.aio_channel()
        self._inference: Any = GRPCInferenceServiceStub(self._channel)
        classifier: Any = ClassifierStub(self._channel)
        self._methods: dict[type, Any] = {
            ClassifyRequest: classifier.Classify,
            ListModelsRequest: classifier.ListModels,
            ModelInferRequest: self._inference.ModelInfer,
        }
        self._limits = jobs.RowLimits()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def classify(
        self,
        images: AsyncImages,
        *,
        model: str = "",
        version: str = "",
        precision: str = "",
        top_k: int = 0,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """As `Client.classify`. Raises ClientError."""
        asked = Asked(model, version, precision, top_k)
        found = [outcome.get() async for outcome in self._classify(images, asked, timeout, strict=True)]
        if not found:
            raise InvalidInputError(NO_IMAGES)
        return found

    def classify_stream(
        self,
        images: AsyncImages,
        *,
        model: str = "",
        version: str = "",
        precision: str = "",
        top_k: int = 0,
        timeout: float | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """As `Client.classify_stream`. Raises ClientError only for what every further call would meet."""
        return self._classify(images, Asked(model, version, precision, top_k), timeout, strict=False)

    async def infer(
        self,
        images: AsyncArrays,
        *,
        model: str = "",
        version: str = "",
        precision: str = "",
        timeout: float | None = None,
    ) -> Logits:
        """As `Client.infer`. Raises ClientError."""
        asked = Asked(model, version, precision)
        job = self._job(timeout)
        parts = _row_parts(images, lambda: job.run(self._limits.find(asked)))
        calls = job.in_window(parts, lambda rows: job.run(jobs.infer(rows, asked, self._limits)), at_once=True)
        return messages.joined([part async for part in calls])

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Every version the server knows of, with what its certificate says. Raises ClientError."""
        return await self._job(timeout).run(jobs.list_models())

    async def ready(self, *, timeout: float | None = None) -> bool:
        """True if the server answers that every model is loaded; False if it does not answer."""
        seconds = self.timeout if timeout is None else timeout
        try:
            response = await self._inference.ServerReady(ServerReadyRequest(), timeout=seconds, metadata=self._connection.metadata())
        except grpc.RpcError:
            return False
        return bool(response.ready)

    async def _classify(self, images: AsyncImages, asked: Asked, timeout: float | None, *, strict: bool) -> AsyncGenerator[Outcome, None]:
        job = self._job(timeout)

        def work(items: list[Item]) -> Awaitable[list[Outcome]]:
            return job.run(jobs.classify(items, asked, self._limits, strict=strict))

        parts = _image_parts(images, lambda: job.run(self._limits.find(asked)))
        async with contextlib.aclosing(job.in_window(parts, work, at_once=strict)) as answers:
            async for outcomes in answers:
                for outcome in outcomes:
                    yield outcome

    def _job(self, timeout: float | None) -> AsyncJob:
        return AsyncJob(self._connection, self._methods, self.timeout if timeout is None else timeout, self.window)


async def _items(images: AsyncImages) -> AsyncIterator[Item]:
    index = 0
    async for image in _each(images, each_image):
        yield load(index, image) if is_in_memory(image) else await asyncio.to_thread(load, index, image)
        index += 1


async def _image_parts(images: AsyncImages, row_limit: Callable[[], Awaitable[int]]) -> AsyncIterator[list[Item]]:
    """The calls of a job; a single image needs no row limit."""
    parts: Parts | None = None
    first: Item | None = None
    async for item in _items(images):
        if first is None:
            first = item
            continue
        if parts is None:
            parts = Parts(min(jobs.CLASSIFY_ROWS, await row_limit()), jobs.MAX_CALL_BYTES)
            parts.add(first)
        if full := parts.add(item):
            yield full
    rest = parts.rest() if parts is not None else [first] if first is not None else []
    if rest:
        yield rest


async def _row_parts(images: AsyncArrays, row_limit: Callable[[], Awaitable[int]]) -> AsyncIterator[Rows]:
    parts: RowParts | None = None
    async for array in _each(images, each_array):
        if parts is None:
            single = not isinstance(images, AsyncIterable) and is_single(images)
            parts = RowParts(1 if single else await row_limit(), jobs.MAX_CALL_BYTES)
        for rows in parts.add(array):
            yield rows
    if parts is not None:
        for rows in parts.rest():
            yield rows


async def _each(given: Any, each: Callable[[Any], Any]) -> AsyncIterator[Any]:
    if isinstance(given, AsyncIterable):
        async for one in given:
            yield one
    else:
        for one in each(given):
            yield one
