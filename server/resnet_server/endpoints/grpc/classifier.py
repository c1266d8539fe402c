"""resnet.v1.Classifier: encoded images in, labels with probabilities out."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

import numpy as np
from resnet_proto import classifier_pb2 as pb
from resnet_proto.classifier_pb2_grpc import ClassifierServicer

from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.error_status import Border, Context
from resnet_server.endpoints.image_decoding import decode_image
from resnet_server.engines.api import Images, Logits
from resnet_server.errors import InvalidRequestError
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel

DEFAULT_TOP_K = 5


class ClassifierService(ClassifierServicer):
    """Decodes on threads of `executor`, so that a large photograph does not hold up the event loop."""

    def __init__(self, registry: Registry, border: Border, executor: Executor, max_image_pixels: int, now: Callable[[], float]) -> None:
        self._registry = registry
        self._border = border
        self._executor = executor
        self._max_pixels = max_image_pixels
        self._now = now

    async def Classify(self, request: pb.ClassifyRequest, context: Context) -> pb.ClassifyResponse:
        """Classify the request's images in one batch."""
        async with self._border.call("Classify", context) as call:
            model = self._registry.find(request.model_name, request.model_version, request.precision)
            call.model, call.version = model.name, model.version
            top_k = check_top_k(request.top_k, model)
            deadline = self._border.deadline(context)
            started = self._now()
            rows = await self._decode(request, model)
            decoded = self._now()
            answer = await model.infer(rows, deadline)
            return encode(model, answer, top_k, decoded - started)
        raise AssertionError("unreachable: the border aborts")

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
            )
        for refused in self._registry.refused:
            response.models.add(name=refused.name, version=refused.version, state=pb.ServedModel.STATE_REFUSED, reason=refused.reason)
        return response

    async def _decode(self, request: pb.ClassifyRequest, model: ServedModel) -> Images:
        if not 1 <= len(request.images) <= model.batcher.limits.max_request:
            raise InvalidRequestError(f"images: {len(request.images)} given; expected 1 to {model.batcher.limits.max_request}")
        loop = asyncio.get_running_loop()
        spec, limit = model.manifest.input, self._max_pixels
        jobs = [
            loop.run_in_executor(self._executor, decode_image, data, spec, limit, f"images[{i}]") for i, data in enumerate(request.images)
        ]
        try:
            return np.stack(await asyncio.gather(*jobs))
        finally:
            for job in jobs:  # one bad image, or a caller that left: the rest need not be decoded
                job.cancel()


def check_top_k(top_k: int, model: ServedModel) -> int:
    """Return k, 5 for 0 and at most the number of classes by default; raise InvalidRequestError for more than that."""
    classes = model.manifest.output.classes
    if top_k > classes:
        raise InvalidRequestError(f"top_k: {top_k}; expected 0 to {classes}, the number of classes")
    return top_k or min(DEFAULT_TOP_K, classes)


def softmax(logits: Logits) -> Logits:
    """Row-wise softmax of FP32 [n, classes], stable for large logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: Logits = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def encode(model: ServedModel, answer: Answer, top_k: int, decode_seconds: float) -> pb.ClassifyResponse:
    """Build the response from FP32 logits [n, classes]."""
    response = pb.ClassifyResponse(model_name=model.name, model_version=model.version)
    for row, probabilities in zip(answer.logits, softmax(answer.logits), strict=True):
        result = response.results.add()
        for index in np.argsort(-row, kind="stable")[:top_k]:
            result.labels.add(index=index, label=model.labels[index], probability=probabilities[index], logit=row[index])
    execution = response.execution
    execution.provider, execution.precision = model.info.provider, model.precision
    execution.certificate_id = model.info.certificate_id
    execution.batch_rows, execution.decode_seconds = answer.batch_rows, decode_seconds
    execution.queue_seconds, execution.compute_seconds = answer.queue_seconds, answer.compute_seconds
    return response
