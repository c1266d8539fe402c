"""The blocking client."""

import contextlib
import itertools
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Self

import grpc
from resnet_proto.classifier_pb2 import ClassifyRequest, ListModelsRequest
from resnet_proto.classifier_pb2_grpc import ClassifierStub
from resnet_proto.open_inference_pb2 import ModelInferRequest, ServerReadyRequest
from resnet_proto.open_inference_pb2_grpc import GRPCInferenceServiceStub

from resnet_client import jobs, messages
from resnet_client.address import DEFAULT_URL
from resnet_client.connection import DEFAULT_TIMEOUT, DEFAULT_WINDOW, TLS, Connection, Metadata, Token
from resnet_client.errors import InvalidInputError
from resnet_client.inputs import Images, Item, Parts, each_image, load
from resnet_client.job import Job
from resnet_client.messages import NO_IMAGES, Asked, Logits
from resnet_client.results import ModelInfo, Outcome, Prediction
from resnet_client.rows import Arrays, RowParts, Rows, each_array, is_single


class Client:
    """Talks to one server, or to several that serve the same; use it as a context manager. Safe for several threads.

    `url`: see `address`; `timeout`: seconds within which each call must be answered, retries included (a job of many calls takes as
    long as it takes); `tls`: True, or a `TLS` with certificates; `token`: sent as `authorization: Bearer`, a string or a function that
    gives it; `metadata` goes with every call; `window`: calls of one job in flight.
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
        self._channel = self._connection.channel()
        self._inference = GRPCInferenceServiceStub(self._channel)
        classifier = ClassifierStub(self._channel)
        self._methods: dict[type, Any] = {
            ClassifyRequest: classifier.Classify,
            ListModelsRequest: classifier.ListModels,
            ModelInferRequest: self._inference.ModelInfer,
        }
        self._limits = jobs.RowLimits()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def classify(
        self, images: Images, *, model: str = "", version: str = "", precision: str = "", top_k: int = 0, timeout: float | None = None
    ) -> list[Prediction]:
        """Classify one image or any number; one prediction each, in order, with `top_k` labels (0: five, or all where there are fewer).

        See `inputs.Image` for what is an image. The first failure ends the rest and is raised: ClientError.
        """
        asked = Asked(model, version, precision, top_k)
        found = [outcome.get() for outcome in self._classify(images, asked, timeout, strict=True)]
        if not found:
            raise InvalidInputError(NO_IMAGES)
        return found

    def classify_stream(
        self, images: Images, *, model: str = "", version: str = "", precision: str = "", top_k: int = 0, timeout: float | None = None
    ) -> Generator[Outcome, None, None]:
        """Yield the result or the error of each image, in order; reads no further ahead than `window` calls.

        Raises ClientError only for what every further call would meet: no server, no such model, no access.
        """
        return self._classify(images, Asked(model, version, precision, top_k), timeout, strict=False)

    def infer(self, images: Arrays, *, model: str = "", version: str = "", precision: str = "", timeout: float | None = None) -> Logits:
        """Compute UINT8 [n, h, w, 3], or an iterable of such, to logits FP32 [n, classes] over the Open Inference Protocol.

        The first failure ends the rest and is raised: ClientError.
        """
        asked = Asked(model, version, precision)
        with self._job(timeout) as job:
            parts = _row_parts(images, lambda: job.run(self._limits.find(asked)))
            found = list(job.in_window(parts, lambda rows: job.run(jobs.infer(rows, asked, self._limits)), at_once=True))
        return messages.joined(found)

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Every version the server knows of, with what its certificate says. Raises ClientError."""
        with self._job(timeout) as job:
            return job.run(jobs.list_models())

    def ready(self, *, timeout: float | None = None) -> bool:
        """True if the server answers that every model is loaded; False if it does not answer."""
        seconds = self.timeout if timeout is None else timeout
        try:
            return self._inference.ServerReady(ServerReadyRequest(), timeout=seconds, metadata=self._connection.metadata()).ready
        except grpc.RpcError:
            return False

    def _classify(self, images: Images, asked: Asked, timeout: float | None, *, strict: bool) -> Generator[Outcome, None, None]:
        def work(items: list[Item]) -> list[Outcome]:
            return job.run(jobs.classify(items, asked, self._limits, strict=strict))

        with self._job(timeout) as job:
            parts = _image_parts(images, lambda: job.run(self._limits.find(asked)))
            with contextlib.closing(job.in_window(parts, work, at_once=strict)) as answers:
                for outcomes in answers:
                    yield from outcomes

    def _job(self, timeout: float | None) -> Job:
        return Job(self._connection, self._methods, self.timeout if timeout is None else timeout, self.window)


def _image_parts(images: Images, row_limit: Callable[[], int]) -> Generator[list[Item], None, None]:
    """The calls of a job; a single image needs no row limit."""
    items = (load(index, image) for index, image in enumerate(each_image(images)))
    head = list(itertools.islice(items, 2))
    parts = Parts(min(jobs.CLASSIFY_ROWS, row_limit()) if len(head) > 1 else 1, jobs.MAX_CALL_BYTES)
    for item in itertools.chain(head, items):
        if full := parts.add(item):
            yield full
    if rest := parts.rest():
        yield rest


def _row_parts(images: Arrays, row_limit: Callable[[], int]) -> Generator[Rows, None, None]:
    parts: RowParts | None = None
    for array in each_array(images):
        if parts is None:
            parts = RowParts(1 if is_single(images) else row_limit(), jobs.MAX_CALL_BYTES)
        yield from parts.add(array)
    if parts is not None:
        yield from parts.rest()
