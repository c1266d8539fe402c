"""Requests built and responses read: what the wire says and what callers see."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from resnet_proto import classifier_pb2 as classifier
from resnet_proto import open_inference_pb2 as inference

from resnet_client.errors import ClientError, InvalidInputError
from resnet_client.inputs import Pixels
from resnet_client.results import Execution, Label, Member, ModelInfo, Prediction

Logits = NDArray[np.float32]
NO_IMAGES = "images: none given; expected at least one"


@dataclass(frozen=True)
class Asked:
    """What a job asks for; empty strings and 0 leave the choice to the server."""

    model: str = ""
    version: str = ""
    precision: str = ""
    top_k: int = 0


def classify_request(images: Iterable[bytes], asked: Asked) -> classifier.ClassifyRequest:
    """One call's encoded images."""
    return classifier.ClassifyRequest(
        model_name=asked.model, model_version=asked.version, precision=asked.precision, top_k=asked.top_k, images=images
    )


def predictions(response: classifier.ClassifyResponse) -> list[Prediction]:
    """One prediction for each image of the call, in order."""
    run = response.execution
    seconds = (run.decode_seconds, run.queue_seconds, run.compute_seconds)
    chosen = (run.network, run.network_accuracy, run.reason) if run.network else ()
    execution = Execution(run.provider, run.precision, run.certificate_id, run.batch_rows, *seconds, *chosen)
    return [
        Prediction(
            tuple(Label(label.index, label.label, label.probability, label.logit) for label in result.labels),
            response.model_name,
            response.model_version,
            execution,
        )
        for result in response.results
    ]


def infer_request(rows: Pixels, asked: Asked) -> inference.ModelInferRequest:
    """One call's raw UINT8 [n, h, w, 3]."""
    request = inference.ModelInferRequest(model_name=asked.model, model_version=asked.version)
    request.inputs.add(name="image", datatype="UINT8", shape=rows.shape)
    request.raw_input_contents.append(rows.tobytes())
    if asked.precision:
        request.parameters["precision"].string_param = asked.precision
    return request


def logits(response: inference.ModelInferResponse, rows: int) -> Logits:
    """FP32 [rows, classes]; raise ClientError for an answer of another form."""
    if len(response.outputs) != 1 or len(response.raw_output_contents) != 1 or response.outputs[0].datatype != "FP32":
        raise ClientError("the answer is not one raw FP32 output; is this another kind of model?")
    found = np.frombuffer(response.raw_output_contents[0], "<f4").reshape(tuple(response.outputs[0].shape))
    if len(found) != rows:
        raise ClientError(f"{len(found)} rows of logits came back for {rows} images")
    return found


def joined(parts: list[Logits]) -> Logits:
    """FP32 [n, classes] of a job's calls, in order; raise InvalidInputError if there was none."""
    if not parts:
        raise InvalidInputError(NO_IMAGES)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


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
        members=tuple(Member(one.name, one.version, one.precision, one.certificate_id, one.depth, one.accuracy) for one in model.members),
    )
