"""A server to test with: the wire of resnet-server in this process, without a model.

    with FakeServer(labels=["cat", "dog"]) as server, Client(server.url) as client:
        assert client.classify(b"anything")[0].best.name in ("cat", "dog")

It answers on a real socket, so that deadlines, retries and cancelling are gRPC's own. Needs grpcio and numpy only.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from numpy.typing import ArrayLike, NDArray
from resnet_proto import classifier_pb2, open_inference_pb2
from resnet_proto.limits import MAX_MESSAGE_BYTES
from resnet_proto.trailers import COMPUTED, MAYBE, NOTHING, RETRY_AFTER

THREADS = 16
Answer = Callable[[bytes], ArrayLike]


class RefusedImageError(Exception):
    """Raise it in an `answer` function: the server then answers INVALID_ARGUMENT and names the image, as for one it cannot decode."""


@dataclass(frozen=True)
class Received:
    """A call as it came: its method, message and metadata, and the seconds that it had left."""

    method: str
    request: Any
    metadata: dict[str, str]
    time_remaining: float


@dataclass
class _Failure:
    status: grpc.StatusCode
    text: str
    trailers: tuple[tuple[str, str], ...]
    times: int


@dataclass
class FakeServer:
    """Serves one model on a free port; use it as a context manager.

    `answer` gives the logits [classes] for an image: for Classify its encoded bytes, for ModelInfer its raw pixels. Without one, they
    are made from the bytes, the same for the same. `calls` keeps what came.
    """

    labels: Sequence[str] = ("cat", "dog")
    model: str = "fake"
    version: str = "1"
    max_batch_rows: int = 64
    answer: Answer | None = None
    credentials: grpc.ServerCredentials | None = None
    address: str = "127.0.0.1:0"
    calls: list[Received] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._failures: list[_Failure] = []
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Condition()
        self._server = grpc.server(
            ThreadPoolExecutor(THREADS, "fake-server"), options=[("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)]
        )
        self._server.add_generic_rpc_handlers(
            (
                _handlers(classifier_pb2, "Classifier", {"Classify": self._classify, "ListModels": self._list}, self._call),
                _handlers(open_inference_pb2, "GRPCInferenceService", {"ModelInfer": self._infer, "ServerReady": self._ready}, self._call),
            )
        )
        secure = self.credentials
        self.port = self._server.add_secure_port(self.address, secure) if secure else self._server.add_insecure_port(self.address)
        self.url = f"{self.address.rpartition(':')[0]}:{self.port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.set()
        self._server.stop(None).wait()

    def fail(
        self,
        status: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        text: str = "told to fail",
        *,
        times: int = 1,
        retry_after: float | None = None,
        maybe_computed: bool | None = None,
    ) -> None:
        """Let the next `times` calls fail; with the hint of a full queue, or saying if an engine died of it (None: saying nothing)."""
        trailers = [] if retry_after is None else [(RETRY_AFTER, str(round(1e3 * retry_after)))]
        if maybe_computed is not None:
            trailers.append((COMPUTED, MAYBE if maybe_computed else NOTHING))
        self._failures.append(_Failure(status, text, tuple(trailers), times))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Within it no inference is answered: for deadlines, cancelling, and what is in flight."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def wait_for(self, calls: int, seconds: float = 30.0) -> None:
        """Wait until so many calls have come; raise TimeoutError."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.calls) >= calls, seconds):
                raise TimeoutError(f"{len(self.calls)} of {calls} calls came within {seconds} s")

    def _call(self, method: str, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def handle(request: Any, context: Any) -> Any:
            metadata = {str(key): str(value) for key, value in context.invocation_metadata()}
            with self._arrived:
                self.calls.append(Received(method, request, metadata, context.time_remaining()))
                failure = self._next_failure()
                self._arrived.notify_all()
            if failure is not None:
                context.set_trailing_metadata(failure.trailers)
                context.abort(failure.status, failure.text)
            return behaviour(request, context)

        return handle

    def _next_failure(self) -> _Failure | None:
        if not self._failures:
            return None
        failure = self._failures[0]
        failure.times -= 1
        if not failure.times:
            self._failures.pop(0)
        return failure

    def _classify(self, request: Any, context: Any) -> Any:
        self._check(request, len(request.images), "images", "given", context)
        if request.top_k > len(self.labels):
            self._invalid(context, f"top_k: {request.top_k}; expected 0 to {len(self.labels)}, the number of classes")
        response = classifier_pb2.ClassifyResponse(model_name=self.model, model_version=self.version)
        for row in self._logits(request.images, context):
            probabilities = np.exp(row - row.max()) / np.exp(row - row.max()).sum()
            result = response.results.add()
            for index in np.argsort(-row, kind="stable")[: request.top_k or 5]:
                result.labels.add(index=index, label=self.labels[index], probability=probabilities[index], logit=row[index])
        response.execution.provider, response.execution.precision = "FakeProvider", "fp32"
        response.execution.batch_rows = len(request.images)
        return response

    def _infer(self, request: Any, context: Any) -> Any:
        shape = tuple(request.inputs[0].shape)
        self._check(request, shape[0], "inputs[0].shape", "rows", context)
        rows = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(shape)
        logits = self._logits([row.tobytes() for row in rows], context)
        response = open_inference_pb2.ModelInferResponse(model_name=self.model, model_version=self.version, id=request.id)
        response.outputs.add(name="logits", datatype="FP32", shape=logits.shape)
        response.raw_output_contents.append(logits.astype("<f4").tobytes())
        return response

    def _list(self, request: Any, context: Any) -> Any:
        response = classifier_pb2.ListModelsResponse()
        ready = classifier_pb2.ServedModel.STATE_READY
        response.models.add(name=self.model, version=self.version, state=ready, max_batch_rows=self.max_batch_rows)
        response.models[0].manifest.output.classes = len(self.labels)
        return response

    def _ready(self, request: Any, context: Any) -> Any:
        return open_inference_pb2.ServerReadyResponse(ready=True)

    def _check(self, request: Any, count: int, subject: str, noun: str, context: Any) -> None:
        if request.model_name not in ("", self.model) or request.model_version not in ("", self.version):
            context.abort(grpc.StatusCode.NOT_FOUND, f"model_name: {request.model_name!r} is unknown")
        if not 1 <= count <= self.max_batch_rows:
            self._invalid(context, f"{subject}: {count} {noun}; expected 1 to {self.max_batch_rows}")
        self._open.wait()

    def _invalid(self, context: Any, text: str) -> None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, text)

    def _logits(self, images: Sequence[bytes], context: Any) -> NDArray[np.float32]:
        rows = []
        for index, image in enumerate(images):
            try:
                rows.append(np.asarray((self.answer or self._made_up)(image), np.float32))
            except RefusedImageError as error:
                self._invalid(context, f"images[{index}]: {error}")
        return np.stack(rows)

    def _made_up(self, image: bytes) -> ArrayLike:
        seed = int.from_bytes(hashlib.sha256(image).digest()[:8], "little")
        return np.random.default_rng(seed).normal(size=len(self.labels))


def _handlers(module: Any, service: str, behaviours: dict[str, Any], wrap: Callable[..., Any]) -> Any:
    methods = module.DESCRIPTOR.services_by_name[service].methods_by_name
    found = {}
    for name, behaviour in behaviours.items():
        reads = getattr(module, methods[name].input_type.name).FromString
        found[name] = grpc.unary_unary_rpc_method_handler(wrap(name, behaviour), reads, lambda message: message.SerializeToString())
    return grpc.method_handlers_generic_handler(f"{module.DESCRIPTOR.package}.{service}", found)
