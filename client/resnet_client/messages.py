"""Requests built and responses read: what the blocking and the asyncio client share. Nothing here does I/O but reading files."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray
from resnet_proto import classifier_pb2 as classifier
from resnet_proto import open_inference_pb2 as inference

from resnet_client.errors import ClientError
from resnet_client.results import Execution, Label, ModelInfo, Prediction

MAX_CALL_BYTES = 32 << 20
"""A call carries at most this much, so that one caller does not hold the server's memory."""

Image = bytes | Path
Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


def invalid(text: str) -> ClientError:
    """An error of the input, found before anything is sent."""
    return ClientError(grpc.StatusCode.INVALID_ARGUMENT, text)


def read_images(images: Sequence[Image]) -> list[bytes]:
    """Bytes as they are, files read; raise ClientError for none at all or a file that cannot be read."""
    if not images:
        raise invalid("images: none given; expected at least one")
    return [image if isinstance(image, bytes) else _read(image) for image in images]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise invalid(f"images: {path} cannot be read: {error.strerror}") from None


def classify_requests(images: list[bytes], template: classifier.ClassifyRequest, max_rows: int) -> list[classifier.ClassifyRequest]:
    """As few copies of the template, filled with images in order, as the server's row limit and the byte limit allow."""
    requests: list[classifier.ClassifyRequest] = []
    size = MAX_CALL_BYTES
    for image in images:
        if size + len(image) > MAX_CALL_BYTES or len(requests[-1].images) >= max_rows:
            requests.append(classifier.ClassifyRequest())
            requests[-1].CopyFrom(template)
            size = 0
        requests[-1].images.append(image)
        size += len(image)
    return requests


def predictions(responses: Iterable[classifier.ClassifyResponse]) -> list[Prediction]:
    """One prediction for each image, in order."""
    found = []
    for response in responses:
        run = response.execution
        seconds = (run.decode_seconds, run.queue_seconds, run.compute_seconds)
        execution = Execution(run.provider, run.precision, run.certificate_id, run.batch_rows, *seconds)
        for result in response.results:
            labels = tuple(Label(label.index, label.label, label.probability, label.logit) for label in result.labels)
            found.append(Prediction(labels, response.model_name, response.model_version, execution))
    return found


def infer_requests(images: Images, model: str, version: str, precision: str, max_rows: int) -> list[inference.ModelInferRequest]:
    """Requests of raw UINT8 [n, h, w, 3]; raise ClientError for another dtype or rank."""
    if images.dtype != np.uint8 or images.ndim != 4 or not len(images):
        raise invalid(f"images: {images.dtype} {list(images.shape)}; expected uint8 [n, h, w, 3] with n at least 1")
    rows = max(1, min(max_rows, MAX_CALL_BYTES // max(1, images[0].nbytes)))
    return [_infer_request(images[start : start + rows], model, version, precision) for start in range(0, len(images), rows)]


def _infer_request(images: Images, model: str, version: str, precision: str) -> inference.ModelInferRequest:
    request = inference.ModelInferRequest(model_name=model, model_version=version)
    request.inputs.add(name="image", datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    if precision:
        request.parameters["precision"].string_param = precision
    return request


def logits(responses: Iterable[inference.ModelInferResponse]) -> Logits:
    """FP32 [n, classes] of all responses, in order."""
    parts = [np.frombuffer(r.raw_output_contents[0], "<f4").reshape(tuple(r.outputs[0].shape)) for r in responses]
    joined: Logits = np.concatenate(parts)
    return joined


def model_infos(response: classifier.ListModelsResponse) -> list[ModelInfo]:
    """All versions the server knows of."""
    return [_model_info(model) for model in response.models]


def _model_info(model: classifier.ServedModel) -> ModelInfo:
    manifest, source = model.manifest, model.manifest.source
    artifact = next((a for a in manifest.artifacts if a.precision == model.precision), None)
    certificate = artifact.certificate if artifact is not None and artifact.HasField("certificate") else None
    return ModelInfo(
        name=model.name,
        version=model.version,
        ready=model.state == classifier.ServedModel.STATE_READY,
        reason=model.reason,
        variant=manifest.network.variant,
        precision=model.precision,
        provider=model.provider,
        input_size=manifest.input.height,
        classes=manifest.output.classes,
        parameters=manifest.network.parameters,
        multiply_adds=manifest.network.multiply_adds,
        accuracy=source.accuracy if source.HasField("accuracy") else None,
        accuracy_images=source.accuracy_images,
        certificate_id=certificate.id if certificate is not None else "",
        agreement=certificate.top1_agreement if certificate is not None else None,
        max_batch_rows=model.max_batch_rows,
    )


def row_limit(infos: Iterable[ModelInfo], model: str, version: str) -> int:
    """The most rows a call may hold; 1 for a model the server does not name, whose own answer then says so."""
    limits = [i.max_batch_rows for i in infos if i.ready and model in ("", i.name) and version in ("", i.version)]
    return min(limits, default=1)
