"""A ModelInferRequest, taken apart on the wire: everything but its contents is parsed, and its contents are found, not copied.

Parsing is what a hostile message makes dear: 64 MiB of empty tensors, of dimensions or of one-byte values become gigabytes of objects.
"""

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from resnet_proto.open_inference_pb2 import ModelInferRequest

from resnet_server.endpoints.wire import BYTES, VARINT, Schema, WireError, WireReader
from resnet_server.errors import InvalidRequestError

NAME, VERSION, ID, INPUTS, RAW = (
    ModelInferRequest.DESCRIPTOR.fields_by_name[name].number
    for name in ("model_name", "model_version", "id", "inputs", "raw_input_contents")
)
TEXTS = {NAME: "model_name", VERSION: "model_version", ID: "id"}
INPUT = ModelInferRequest.DESCRIPTOR.fields_by_name["inputs"].message_type
SHAPE, CONTENTS = (INPUT.fields_by_name[name].number for name in ("shape", "contents"))
KINDS = {part.number: part.name for part in INPUT.fields_by_name["contents"].message_type.fields}
UINT = INPUT.fields_by_name["contents"].message_type.fields_by_name["uint_contents"].number

ENTRY: Schema = {2: {}}  # of a map of parameters
NESTED: Schema = {4: ENTRY, 6: {2: ENTRY}}
"""Of the request, but for its inputs: parameters, and outputs with theirs."""
INPUT_NESTED: Schema = {4: ENTRY}

LONGEST_TEXT = 4096
LONGEST_SHAPE = 1024  # bytes
CHUNK = 1 << 20
LONGEST_VARINT = 10
Span = tuple[int, int]


@dataclass(slots=True)
class InferMessage:
    """`request` has all fields but contents; `raw` and `typed` say where in `message` those are: the latter by the name of their kind.

    `has_contents`: an input announced typed contents, empty ones or not.
    """

    message: bytes
    request: ModelInferRequest = field(default_factory=ModelInferRequest)
    raw: list[Span] = field(default_factory=list)
    typed: dict[str, list[Span]] = field(default_factory=dict)
    has_contents: bool = False

    def raw_bytes(self, index: int) -> NDArray[np.uint8]:
        """One element of `raw_input_contents`, without a copy."""
        start, stop = self.raw[index]
        return np.frombuffer(self.message, np.uint8, stop - start, start)

    def head(self) -> bytes:
        """What comes before the raw contents, their announcement included; empty where they are not one, or not the last field."""
        if len(self.raw) != 1 or self.raw[0][1] != len(self.message):
            return b""
        return self.message[: self.raw[0][0]]


def read_message(message: bytes) -> InferMessage:
    """Raises InvalidRequestError for what is no ModelInferRequest, and for what has more fields, names or dimensions than any can."""
    found = InferMessage(message)
    try:
        _read_fields(found)
    except (WireError, DecodeError):
        raise InvalidRequestError(f"request: {len(message)} bytes that are no ModelInferRequest") from None
    return found


def identity_of(message: bytes) -> str:
    """The `id` of a ModelInferRequest whatever else is in it; empty where there is none, or none that can be read."""
    try:
        for number, kind, start, stop in WireReader(message).fields(0, len(message)):
            if number == ID and kind == BYTES and stop - start <= LONGEST_TEXT:
                return message[start:stop].decode()
    except (WireError, InvalidRequestError, UnicodeDecodeError):
        pass
    return ""


def _read_fields(found: InferMessage) -> None:
    message = found.message
    reader, parts, kept, at = WireReader(message), [], 0, 0
    for number, kind, start, stop in reader.fields(0, len(message)):
        if kind == BYTES and number in (RAW, INPUTS):
            parts.append(message[kept:at])
            kept = stop
            if number == RAW:
                found.raw.append((start, stop))
            else:
                _read_input(found, reader, start, stop)
        elif number in TEXTS and stop - start > LONGEST_TEXT:
            raise InvalidRequestError(f"{TEXTS[number]}: {stop - start} bytes; expected at most {LONGEST_TEXT}")
        elif kind == BYTES and number in NESTED:
            reader.count(start, stop, NESTED[number])
        at = stop
    parts.append(message[kept:])
    found.request.MergeFromString(b"".join(parts))


def _read_input(found: InferMessage, reader: WireReader, begin: int, end: int) -> None:
    message = found.message
    parts, kept, at = [], begin, begin
    for number, kind, start, stop in reader.fields(begin, end):
        if kind == BYTES and number == CONTENTS:
            parts.append(message[kept:at])
            kept = stop
            found.has_contents = True
            _read_contents(found, reader, start, stop)
        elif number == SHAPE and stop - start > LONGEST_SHAPE:
            raise InvalidRequestError(f"inputs.shape: {stop - start} bytes of dimensions; expected at most {LONGEST_SHAPE}")
        elif kind == BYTES and number in INPUT_NESTED:
            reader.count(start, stop, INPUT_NESTED[number])
        at = stop
    parts.append(message[kept:end])
    found.request.inputs.add().MergeFromString(b"".join(parts))


def _read_contents(found: InferMessage, reader: WireReader, begin: int, end: int) -> None:
    for number, kind, start, stop in reader.fields(begin, end):
        if number in KINDS and stop > start:
            if number == UINT and kind not in (BYTES, VARINT):
                raise WireError("not a number")
            found.typed.setdefault(KINDS[number], []).append((start, stop))


def count_numbers(message: bytes, spans: list[Span]) -> int:
    """Varints in these parts of a message, whose last bytes are below 128; raises InvalidRequestError where a part ends within one."""
    total = 0
    for start, stop in spans:
        if message[stop - 1] > 127:
            raise InvalidRequestError("inputs[0].contents.uint_contents: ends within a number")
        for at in range(start, stop, CHUNK):
            total += int(np.count_nonzero(np.frombuffer(message, np.int8, min(CHUNK, stop - at), at) >= 0))
    return total


def read_bytes(message: bytes, spans: list[Span], count: int) -> NDArray[np.uint8]:
    """`count` numbers of 0 to 255 as UINT8 [count]. Raises InvalidRequestError for the first larger one.

    A number of that range is one byte below 128, or two, of which the second is 0 or 1. A chunk at a time: 64 MiB are no gigabyte.
    """
    values, filled = np.empty(count, np.uint8), 0
    for start, stop in spans:
        last = 0  # byte of the chunk before: above 127 if its number goes on here
        for at in range(start, stop, CHUNK):
            data = np.frombuffer(message, np.uint8, min(CHUNK, stop - at), at)
            before = np.concatenate((np.array([last], np.uint8), data[:-1]))
            goes_on = before > 127
            wrong = goes_on & (data > 1)
            if wrong.any():
                _refuse_number(message[at + int(wrong.argmax()) - 1 : stop])
            part = np.where(goes_on, before + (data == 0) * np.uint8(128), data)[data < 128]
            values[filled : filled + len(part)] = part
            filled, last = filled + len(part), int(data[-1])
    return values


def _refuse_number(data: bytes) -> NoReturn:
    length = 1 + next((place for place, byte in enumerate(data[:LONGEST_VARINT]) if byte < 128), LONGEST_VARINT)
    value = sum((byte & 127) << 7 * place for place, byte in enumerate(data[:length]))
    raise InvalidRequestError(f"inputs[0].contents.uint_contents: a value of {value}; expected 0 to 255")
