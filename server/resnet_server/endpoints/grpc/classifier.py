"""resnet.v1.Classifier: encoded images in, labels with probabilities out."""

import contextlib
from collections.abc import Callable, Iterator

import grpc
import numpy as np
from resnet_proto import classifier_pb2 as pb

from resnet_server.batching.chooser import ANY, Demand
from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.classify_message import ClassifyMessage, read_classify
from resnet_server.endpoints.decoding.pool import DecoderPool
from resnet_server.endpoints.error_status import Border, CallRecord, Context
from resnet_server.endpoints.grpc.door import RETRY_SECONDS, Door
from resnet_server.endpoints.grpc.methods import add_service
from resnet_server.endpoints.labels import check_labels, first_classes
from resnet_server.endpoints.parameters import check_accuracy
from resnet_server.engines.api import Images, Logits
from resnet_server.errors import InvalidRequestError, QueueFullError
from resnet_server.models.depth_chooser import choice_of
from resnet_server.models.served_group import ServedGroup
from resnet_server.models.served_model import ModelInfo, ServedModel

SERVICE = pb.DESCRIPTOR.services_by_name["Classifier"]
DEFAULT_TOP_K = 5


class ClassifierService:
    """Judges a call before it decodes, and has other processes decode."""

    def __init__(self, border: Border, door: Door, decoders: DecoderPool, max_rows: int, now: Callable[[], float]) -> None:
        self._registry = door.registry
        self._border = border
        self.door = door
        self._decoders = decoders
        self._max_rows = max_rows
        self._now = now
        self._rows = 0

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register all methods."""
        add_service(server, SERVICE, self, serialised=("Classify",))

    async def Classify(self, message: bytes, context: Context) -> bytes:
        """Classify the images of a ClassifyRequest in one batch; both messages in serialised form."""
        async with self._border.call("Classify", context) as call:
            with self.door.entered(len(message)):
                return await self._classify(message, call, context)

    async def _classify(self, message: bytes, call: CallRecord, context: Context) -> bytes:
        found = read_classify(message)
        request = found.request
        model = self._registry.find(request.model_name, request.model_version, request.precision)
        call.model, call.version = model.name, model.version
        with model.in_use():
            return await self._decode_and_infer(found, model, call, context)

    async def _decode_and_infer(self, found: ClassifyMessage, model: ServedModel, call: CallRecord, context: Context) -> bytes:
        deadline = self._border.deadline(context)
        request, count = found.request, len(found.images)
        self._registry.check_up(model)
        top_k = self._check(count, request.top_k, model)
        demand = demand_of(request)
        model.info.check_demand(demand)
        self.door.take_rows(context, count)
        model.batcher.judge(count, deadline, demand=demand)
        started = self._now()
        with self._decoding(count):
            rows = await self._decoders.decode(found.images, model.manifest.input, None if deadline is None else deadline - started)
        decoded = self._now()
        answer = await self._answer(model, rows, deadline, demand)
        call.computed(answer, count, model.precision)
        return encode(model, answer, top_k, decoded - started).SerializeToString()

    async def _answer(self, model: ServedModel, rows: Images, deadline: float | None, demand: Demand) -> Answer:
        look = None if self.door.cache is None else self.door.cache.look(model, rows)
        if look is not None and look.answer is not None:
            return look.answer
        answer = await model.infer(rows, deadline, demand=demand)
        if model.tap is not None:
            model.tap.copy(rows, answer.logits)
        if look is not None:
            look.keep(answer)
        return answer

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Every version found in the repository: ready ones with their manifest, refused ones with the reason."""
        response = pb.ListModelsResponse()
        for model in self._registry.ready:
            response.models.add(
                name=model.name,
                version=model.version,
                state=pb.ServedModel.STATE_READY,
                manifest=model.manifest,
                provider=model.info.provider,
                precision=model.precision,
                max_batch_rows=model.batcher.limits.max_request,
                engines=model.info.plan.engines,
                batch_rows=model.info.plan.batch,
                members=map(member_message, model.info.members, model.info.accuracies) if isinstance(model, ServedGroup) else (),
            )
        for refused in self._registry.refused:
            response.models.add(name=refused.name, version=refused.version, state=pb.ServedModel.STATE_REFUSED, reason=refused.reason)
        return response

    @staticmethod
    def _check(count: int, top_k: int, model: ServedModel) -> int:
        if not 1 <= count <= model.batcher.limits.max_request:
            raise InvalidRequestError(f"images: {count} given; expected 1 to {model.batcher.limits.max_request}")
        classes = model.manifest.output.classes
        check_labels("top_k", top_k, classes, count)
        return top_k or min(DEFAULT_TOP_K, classes)

    @contextlib.contextmanager
    def _decoding(self, count: int) -> Iterator[None]:
        """Rows that are decoded are in the queue's bound, though not yet in the queue."""
        if self._rows + count > self._max_rows:
            raise QueueFullError(f"{self._rows} images are being decoded, of at most {self._max_rows}; try again later", RETRY_SECONDS)
        self._rows += count
        try:
            yield
        finally:
            self._rows -= count


def demand_of(request: pb.ClassifyRequest) -> Demand:
    """What is asked of the network that answers; raises InvalidRequestError for what is no share."""
    if not (request.min_accuracy or request.max_depth):
        return ANY
    return Demand(check_accuracy(request.min_accuracy), request.max_depth)


def member_message(info: ModelInfo, accuracy: float) -> pb.Member:
    """One network of a group."""
    return pb.Member(
        name=info.manifest.name,
        version=info.manifest.version,
        precision=info.precision,
        certificate_id=info.certificate_id,
        depth=info.manifest.network.depth,
        accuracy=accuracy,
        fixed_seconds=info.plan.fixed,
        per_row_seconds=info.plan.per_row,
    )


def softmax(logits: Logits) -> Logits:
    """Row-wise softmax of FP32 [n, classes], stable for large logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Logits = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def sigmoid(logits: Logits) -> Logits:
    """Element-wise sigmoid of FP32 [n, classes], stable for large logits of either sign."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)), np.float32)


PROBABILITIES = {"": softmax, "softmax": softmax, "sigmoid": sigmoid}


def encode(model: ServedModel, answer: Answer, top_k: int, decode_seconds: float) -> pb.ClassifyResponse:
    """Build the response from FP32 logits [n, classes]."""
    response = pb.ClassifyResponse(model_name=model.name, model_version=model.version)
    probabilities_of = PROBABILITIES[model.manifest.output.activation]
    for row, probabilities in zip(answer.logits, probabilities_of(answer.logits), strict=True):
        result = response.results.add()
        for index in first_classes(row, top_k):
            result.labels.add(index=index, label=model.labels[index], probability=probabilities[index], logit=row[index])
    execution, choice = response.execution, choice_of(answer)
    info = model.info if choice is None else choice.info
    execution.provider, execution.precision, execution.certificate_id = info.provider, info.precision, info.certificate_id
    if choice is not None:
        execution.network, execution.network_version = info.manifest.name, info.manifest.version
        execution.network_depth, execution.network_accuracy = info.manifest.network.depth, choice.accuracy
        execution.reason = choice.reason
    execution.batch_rows, execution.decode_seconds = answer.batch_rows, decode_seconds
    execution.queue_seconds, execution.compute_seconds = answer.queue_seconds, answer.compute_seconds
    return response
