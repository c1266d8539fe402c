"""The blocking client."""

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


class Client:
    """Talks to one server; use it as a context manager. Safe for several threads.

    `url` is host:port; `timeout` in seconds is the deadline of every method as a whole; `credentials` switch TLS on.
    """

    def __init__(
        self, url: str = DEFAULT_URL, *, timeout: float = DEFAULT_TIMEOUT, credentials: grpc.ChannelCredentials | None = None
    ) -> None:
        self.url = url
        self.timeout = timeout
        self._channel = grpc.secure_channel(url, credentials, OPTIONS) if credentials else grpc.insecure_channel(url, OPTIONS)
        self._classifier = ClassifierStub(self._channel)
        self._inference = GRPCInferenceServiceStub(self._channel)
        self._infos: list[ModelInfo] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def classify(
        self,
        images: Sequence[Image],
        *,
        model: str = "",
        version: str = "",
        precision: str = "",
        top_k: int = 5,
        timeout: float | None = None,
    ) -> list[Prediction]:
        """Classify encoded images (bytes, or files to read); one prediction each, in order.

        More images than the server takes in a call go in several calls at once. Raises ClientError.
        """
        encoded = messages.read_images(images)
        deadline = self._deadline(timeout)
        limit = self._row_limit(len(encoded), model, version, deadline)
        template = classifier_pb2.ClassifyRequest(model_name=model, model_version=version, precision=precision, top_k=top_k)
        requests = messages.classify_requests(encoded, template, limit)
        return messages.predictions(self._all(self._classifier.Classify, requests, deadline))

    def infer(self, images: Images, *, model: str = "", version: str = "", precision: str = "", timeout: float | None = None) -> Logits:
        """Compute UINT8 [n, h, w, 3] to logits FP32 [n, classes] over the Open Inference Protocol. Raises ClientError."""
        deadline = self._deadline(timeout)
        limit = self._row_limit(len(images), model, version, deadline)
        requests = messages.infer_requests(images, model, version, precision, limit)
        return messages.logits(self._all(self._inference.ModelInfer, requests, deadline))

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Every version the server knows of, with what its certificate says. Raises ClientError."""
        return self._list(self._deadline(timeout))

    def ready(self, *, timeout: float | None = None) -> bool:
        """True if the server answers that every model is loaded; False if it does not answer."""
        request = open_inference_pb2.ServerReadyRequest()
        try:
            return self._inference.ServerReady(request, timeout=self.timeout if timeout is None else timeout).ready
        except grpc.RpcError:
            return False

    def _deadline(self, timeout: float | None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def _row_limit(self, count: int, model: str, version: str, deadline: float) -> int:
        if count <= 1:
            return 1
        if self._infos is None:
            self._infos = self._list(deadline)
        return messages.row_limit(self._infos, model, version)

    def _list(self, deadline: float) -> list[ModelInfo]:
        (response,) = self._all(self._classifier.ListModels, [classifier_pb2.ListModelsRequest()], deadline)
        self._infos = messages.model_infos(response)
        return self._infos

    def _all(self, method: Any, requests: Sequence[Any], deadline: float) -> list[Any]:
        """Send all at once and wait for all; the first failure cancels the rest."""
        calls = [method.future(request, timeout=max(0.0, deadline - time.monotonic())) for request in requests]
        try:
            return [call.result() for call in calls]
        except grpc.RpcError as error:
            raise from_rpc(error, self.url) from None
        finally:
            for call in calls:
                call.cancel()
