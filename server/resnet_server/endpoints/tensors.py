"""Open Inference Protocol messages against a manifest: decode a request, encode an answer.

Field names in errors are the protocol's. Raw contents are row-major without padding, one entry per input;
answers are raw too, since public clients read nothing else.
"""

import math
from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from resnet_proto.manifest_pb2 import Manifest
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

from resnet_server.batching.waiter import Answer
from resnet_server.endpoints.infer_message import InferMessage, count_numbers, read_bytes
from resnet_server.endpoints.labels import check_labels, first_classes
from resnet_server.endpoints.shared_memory import OFFSET, REGION, SIZE, Place, place_of
from resnet_server.engines.api import Images, Logits
from resnet_server.errors import InvalidRequestError, shown, shown_list
from resnet_server.models.depth_chooser import MemberChoice, choice_of
from resnet_server.models.served_group import ServedGroup
from resnet_server.models.served_model import ServedModel

DATATYPE = "UINT8"
IDENTITY = ("precision", "provider", "certificate")
MOST_HEADS = 1024  # lengths of BYTES answers vary
MOST_CHOICES = 1024  # members times reasons, and as many after each change of the plan


NO_REGIONS = "shared memory is closed; send the bytes, or start the server with --allow-shared-memory"
ReadPlace = Callable[[Place], Images]


def read_nothing(place: Place) -> Images:
    """Where no shared memory is read."""
    raise InvalidRequestError(f"{place.field}: {NO_REGIONS}")


def decode_rows(found: InferMessage, manifest: Manifest, max_rows: int, read_place: ReadPlace = read_nothing) -> Images:
    """Return the request's rows, UINT8 [n, height, width, 3], without a copy where they came raw.

    Raises InvalidRequestError naming the field, its value and what was expected.
    """
    spec, inputs = manifest.input, found.request.inputs
    if len(inputs) != 1:
        names = shown_list((repr(tensor.name) for tensor in inputs), len(inputs)) or "none"
        raise InvalidRequestError(f"inputs: {len(inputs)} ({names}); expected one, '{spec.name}'")
    tensor = inputs[0]
    if tensor.name != spec.name:
        raise InvalidRequestError(f"inputs[0].name: '{shown(tensor.name)}'; expected '{spec.name}'")
    if tensor.datatype != DATATYPE:
        raise InvalidRequestError(f"inputs[0].datatype: '{shown(tensor.datatype)}'; expected '{DATATYPE}'")
    shape = tuple(tensor.shape)
    expected = (spec.height, spec.width, spec.channels or 3)
    if len(shape) != 4 or shape[1:] != expected or shape[0] < 0:
        text = f"inputs[0].shape: [{shown_list(shape, len(shape))}]; expected [n, {', '.join(map(str, expected))}]"
        raise InvalidRequestError(text)
    if not 1 <= shape[0] <= max_rows:
        raise InvalidRequestError(f"inputs[0].shape: {shape[0]} rows; expected 1 to {max_rows}")
    return _contents(found, math.prod(shape), read_place).reshape(shape)


def _contents(found: InferMessage, count: int, read_place: ReadPlace) -> Images:
    place = place_of(found.request.inputs[0].parameters, "inputs[0].parameters")
    if place is not None:
        return _shared_contents(found, count, place, read_place)
    if found.raw and found.has_contents:
        raise InvalidRequestError("raw_input_contents: given together with inputs[0].contents; expected one of the two")
    if not found.raw:
        return _typed_contents(found, count)
    if len(found.raw) != 1:
        raise InvalidRequestError(f"raw_input_contents: {len(found.raw)} entries; expected 1, one per input")
    rows = found.raw_bytes(0)
    if len(rows) != count:
        shape = shown_list(found.request.inputs[0].shape, 4)
        raise InvalidRequestError(f"raw_input_contents[0]: {len(rows)} bytes; expected {count} for shape [{shape}]")
    return rows


def _shared_contents(found: InferMessage, count: int, place: Place, read_place: ReadPlace) -> Images:
    if found.raw or found.has_contents:
        raise InvalidRequestError(f"{place.field}: given together with the tensor's bytes; expected one of the two")
    if place.size != count:
        shape = shown_list(found.request.inputs[0].shape, 4)
        raise InvalidRequestError(f"inputs[0].parameters.shared_memory_byte_size: {place.size}; expected {count} for shape [{shape}]")
    return read_place(place)


def output_place(request: ModelInferRequest, manifest: Manifest, rows: int) -> Place | None:
    """Where the logits of `rows` images are to be written; None for the message. To be asked after `check_outputs`."""
    if not request.outputs:
        return None
    parameters = request.outputs[0].parameters
    place = place_of(parameters, "outputs[0].parameters")
    if place is None:
        return None
    if "classification" in parameters:
        raise InvalidRequestError(f"{place.field}: given together with classification; expected one of the two")
    needed = 4 * rows * manifest.output.classes
    if place.size < needed:
        raise InvalidRequestError(
            f"outputs[0].parameters.shared_memory_byte_size: {place.size}; expected at least {needed} for {rows} rows"
        )
    return place


def placed(message: bytes, place: Place, write: Callable[[Place, bytes], None]) -> bytes:
    """A ModelInferResponse whose one output is written to its place, and said to be there."""
    answer = ModelInferResponse.FromString(message)
    (data,) = answer.raw_output_contents
    write(place, data)
    del answer.raw_output_contents[:]
    parameters = answer.outputs[0].parameters
    parameters[REGION].string_param, parameters[SIZE].int64_param = place.region, len(data)
    if place.offset:
        parameters[OFFSET].int64_param = place.offset
    return answer.SerializeToString()


def _typed_contents(found: InferMessage, count: int) -> Images:
    for kind in found.typed:
        if kind != "uint_contents":
            raise InvalidRequestError(f"inputs[0].contents.{kind}: given for {DATATYPE}; expected uint_contents")
    spans = found.typed.get("uint_contents", [])
    given = count_numbers(found.message, spans)
    if given != count:
        raise InvalidRequestError(f"inputs[0].contents.uint_contents: {given} values; expected {count}")
    return read_bytes(found.message, spans, count)


def check_outputs(request: ModelInferRequest, manifest: Manifest, rows: int) -> int:
    """Check the requested outputs for `rows` images; return the k of the `classification` extension, 0 for plain logits."""
    if not request.outputs:
        return 0
    if len(request.outputs) > 1 or request.outputs[0].name != manifest.output.name:
        names = shown_list((f"'{output.name}'" for output in request.outputs), len(request.outputs))
        raise InvalidRequestError(f"outputs: {names}; expected '{manifest.output.name}'")
    parameters = request.outputs[0].parameters
    if "classification" not in parameters:
        return 0
    count = parameters["classification"].int64_param
    if count < 1:
        raise InvalidRequestError(f"outputs[0].parameters.classification: {count}; expected 1 to {manifest.output.classes}")
    check_labels("outputs[0].parameters.classification", count, manifest.output.classes, rows)
    return count


class AnswerEncoder:
    """Encodes the answers of one model: what is the same in all of them is serialised once.

    Parts of a protobuf message, one behind the other, are the message. `choice`: of a group's answers, those of one member for one reason.
    """

    def __init__(self, model: ServedModel, choice: MemberChoice | None = None) -> None:
        self._labels = model.labels
        self._output = model.manifest.output.name
        head = ModelInferResponse(model_name=model.name, model_version=model.version)
        properties = model.properties if choice is None else choice.info.properties()
        for name in IDENTITY:
            head.parameters[name].string_param = properties[name]
        if choice is not None:
            add_choice(head, choice)
        self._model = head.SerializeToString()
        self._heads: dict[tuple[tuple[int, int], str, int], tuple[bytes, bytes]] = {}

    def encode(self, identity: str, answer: Answer, top_k: int) -> bytes:
        """A ModelInferResponse: FP32 [n, classes] raw, or BYTES [n, top_k] of `value:index:label`."""
        logits = answer.logits
        rows, classes = logits.shape
        if top_k:
            return self._answer(identity, "BYTES", (rows, top_k), _classification(logits, self._labels, top_k))
        return self._answer(identity, "FP32", (rows, classes), np.ascontiguousarray(logits, "<f4").tobytes())

    def _answer(self, identity: str, datatype: str, shape: tuple[int, int], data: bytes) -> bytes:
        key = (shape, datatype, len(data))
        known = self._heads.get(key)
        if known is None:
            described = ModelInferResponse()
            described.outputs.add(name=self._output, datatype=datatype, shape=shape)
            announcement = ModelInferResponse(raw_output_contents=(data,)).SerializeToString()[: -len(data)]
            known = self._model + described.SerializeToString(), announcement
            if len(self._heads) < MOST_HEADS:
                self._heads[key] = known
        head, announcement = known
        named = ModelInferResponse(id=identity).SerializeToString() if identity else b""
        return b"".join((head, named, announcement, data))


class GroupEncoder:
    """Encodes the answers of a group: each says which member gave it, and why."""

    def __init__(self, model: ServedModel) -> None:
        self._encoder = lru_cache(MOST_CHOICES)(partial(AnswerEncoder, model))

    def encode(self, identity: str, answer: Answer, top_k: int) -> bytes:
        """See `AnswerEncoder.encode`."""
        return self._encoder(choice_of(answer)).encode(identity, answer, top_k)


def encoder_of(model: ServedModel) -> AnswerEncoder | GroupEncoder:
    """What encodes its answers."""
    return GroupEncoder(model) if isinstance(model, ServedGroup) else AnswerEncoder(model)


def add_choice(head: ModelInferResponse, choice: MemberChoice) -> None:
    """Name the member that answers, and say why it does."""
    info, given = choice.info, head.parameters
    given["network"].string_param, given["network_version"].string_param = info.manifest.name, info.manifest.version
    given["depth"].int64_param, given["accuracy"].double_param = info.manifest.network.depth, choice.accuracy
    given["reason"].string_param, given["why"].string_param = choice.reason, choice.why


def _classification(logits: Logits, labels: tuple[str, ...], top_k: int) -> bytes:
    elements = []
    for row in logits:
        for index in first_classes(row, top_k):
            text = f"{row[index]:f}:{index}:{labels[index]}".encode()
            elements.append(len(text).to_bytes(4, "little") + text)
    return b"".join(elements)
