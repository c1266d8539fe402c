"""Inference requests and answers of the REST form, to and from the messages of the gRPC form.

The specification is the Open Inference Protocol's `inference_rest.md`; the binary extension is Triton's: the header
`Inference-Header-Content-Length` gives the bytes of the JSON, and tensors follow it in the order of the inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

from resnet_server.endpoints.http.calls import HttpError

HEADER_LENGTH = "inference-header-content-length"
BINARY_SIZE, BINARY_DATA, BINARY_OUTPUT = "binary_data_size", "binary_data", "binary_data_output"
TYPED = {"BOOL": "bool_contents", "FP32": "fp32_contents", "FP64": "fp64_contents", "INT64": "int64_contents", "UINT64": "uint64_contents"}
MOST_NESTED = 8


@dataclass(frozen=True)
class RestRequest:
    """A request as the gRPC form has it, and whether the answer's tensors are to be binary."""

    message: ModelInferRequest
    binary: bool


def bad(field: str, found: object, expected: str) -> HttpError:
    """What is wrong with a field, its value clipped."""
    text = found if isinstance(found, str) else orjson_text(found)
    return HttpError(400, f"{field}: {text[:100]}{'...' if len(text) > 100 else ''}; expected {expected}")


def orjson_text(value: object) -> str:
    """A value as JSON writes it."""
    return orjson.dumps(value, default=str).decode(errors="replace")


def read_request(body: bytes, header_length: str | None, name: str, version: str) -> RestRequest:
    """Parse `{"inputs": [...]}`, with its tensors behind it where `header_length` says so. Raises HttpError 400."""
    length = len(body) if header_length is None else _header_length(header_length, len(body))
    document = parse_object(body[:length])
    message = ModelInferRequest(model_name=name, model_version=version)
    if "id" in document:
        message.id = _text(document["id"], "id")
    _set_parameters(message.parameters, document.get("parameters"), "parameters", skip=(BINARY_OUTPUT,))
    tail = _Tail(memoryview(body)[length:])
    inputs = document.get("inputs")
    if not isinstance(inputs, list):
        raise bad("inputs", inputs, "a list of tensors")
    for index, tensor in enumerate(inputs):
        _read_input(message, tensor, f"inputs[{index}]", tail)
    tail.finish()
    wants = [_read_output(message, output, f"outputs[{index}]") for index, output in enumerate(document.get("outputs") or ())]
    default = bool((document.get("parameters") or {}).get(BINARY_OUTPUT, False))
    return RestRequest(message, any(want if want is not None else default for want in wants) if wants else default)


def raw_request(body: bytes, name: str, version: str, input_name: str, shape: tuple[int, int, int]) -> RestRequest:
    """A raw binary request (a header length of 0): the body is the one input of one image."""
    message = ModelInferRequest(model_name=name, model_version=version, raw_input_contents=(body,))
    message.inputs.add(name=input_name, datatype="UINT8", shape=(1, *shape))
    return RestRequest(message, binary=True)


def parse_object(data: bytes) -> dict[str, Any]:
    """A JSON object; raises HttpError 400 for anything else."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"body: is no JSON ({error})") from None
    if not isinstance(document, dict):
        raise bad("body", document, "a JSON object")
    return document


def _header_length(text: str, size: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= size:
        raise bad("Inference-Header-Content-Length", text, f"a whole number from 0 to {size}, the bytes of the body")
    return int(text)


class _Tail:
    """The tensors behind the JSON, taken in order."""

    def __init__(self, data: memoryview) -> None:
        self._data = data

    def take(self, size: object, field: str) -> bytes:
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(self._data):
            raise bad(f"{field}.parameters.{BINARY_SIZE}", size, f"a whole number from 0 to {len(self._data)}, the bytes that are left")
        part, self._data = self._data[:size], self._data[size:]
        return bytes(part)

    def finish(self) -> None:
        if self._data:
            raise HttpError(400, f"body: {len(self._data)} bytes behind the last tensor; expected none")


def _read_input(message: ModelInferRequest, tensor: object, field: str, tail: _Tail) -> None:
    if not isinstance(tensor, dict):
        raise bad(field, tensor, "an object with name, shape, datatype and data")
    entry = message.inputs.add(name=_text(tensor.get("name"), f"{field}.name"), datatype=_text(tensor.get("datatype"), f"{field}.datatype"))
    entry.shape.extend(_shape(tensor.get("shape"), f"{field}.shape"))
    parameters = tensor.get("parameters")
    _set_parameters(entry.parameters, parameters, f"{field}.parameters", skip=(BINARY_SIZE,))
    if isinstance(parameters, dict) and BINARY_SIZE in parameters:
        if "data" in tensor:
            raise HttpError(400, f"{field}.data: given together with {BINARY_SIZE}; expected one of the two")
        message.raw_input_contents.append(tail.take(parameters[BINARY_SIZE], field))
    elif "data" in tensor:
        _set_data(message, len(message.inputs) - 1, tensor["data"], f"{field}.data")


def _set_data(message: ModelInferRequest, index: int, data: object, field: str) -> None:
    """Values as the gRPC form has them, so that what is wrong with them is said there, once for both."""
    entry = message.inputs[index]
    values = _flat(data, field)
    if entry.datatype == "BYTES":
        entry.contents.bytes_contents.extend(_text(value, field).encode() for value in values)
        return
    if not all(isinstance(value, (int, float)) for value in values):
        wrong = next(value for value in values if not isinstance(value, (int, float)))
        raise bad(field, wrong, "numbers")
    try:
        if entry.datatype in ("UINT8", "UINT16", "UINT32"):
            _set_unsigned(message, index, values, field)
        else:
            getattr(entry.contents, TYPED.get(entry.datatype, "int_contents")).extend(values)
    except (TypeError, ValueError, OverflowError):
        raise bad(field, "a value", f"values of {entry.datatype[:100]}") from None


def _set_unsigned(message: ModelInferRequest, index: int, values: list[Any], field: str) -> None:
    if any(isinstance(value, float) for value in values):
        raise bad(field, next(value for value in values if isinstance(value, float)), "whole numbers")
    array = np.asarray(values, np.int64) if values else np.zeros(0, np.int64)
    if array.size and array.min() < 0:
        raise bad(field, int(array.min()), "0 to 255")
    message.inputs[index].contents.uint_contents.extend(array.tolist())


def _flat(data: object, field: str) -> list[Any]:
    """Flat, or nested in row-major order; the shape is what counts."""
    if not isinstance(data, list):
        raise bad(field, data, "a list")
    for _ in range(MOST_NESTED):
        if not any(isinstance(item, list) for item in data):
            return data
        if not all(isinstance(item, list) for item in data):
            raise HttpError(400, f"{field}: lists beside values; expected all at one depth")
        data = [value for item in data for value in item]
    raise HttpError(400, f"{field}: nested more than {MOST_NESTED} deep; expected the depth of the shape")


def _read_output(message: ModelInferRequest, output: object, field: str) -> bool | None:
    if not isinstance(output, dict):
        raise bad(field, output, "an object with a name")
    entry = message.outputs.add(name=_text(output.get("name"), f"{field}.name"))
    parameters = output.get("parameters")
    _set_parameters(entry.parameters, parameters, f"{field}.parameters", skip=(BINARY_DATA,))
    wanted = parameters.get(BINARY_DATA) if isinstance(parameters, dict) else None
    if wanted is not None and not isinstance(wanted, bool):
        raise bad(f"{field}.parameters.{BINARY_DATA}", wanted, "true or false")
    return wanted


def _set_parameters(target: Mapping[str, Any], given: object, field: str, skip: tuple[str, ...]) -> None:
    if given is None:
        return
    if not isinstance(given, dict):
        raise bad(field, given, "an object")
    for name, value in given.items():
        if name in skip:
            continue
        try:
            _set_parameter(target[name], value)
        except (TypeError, ValueError):
            raise bad(f"{field}.{name[:100]}", value, "a string, a number, true or false") from None


def _set_parameter(parameter: Any, value: object) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    elif isinstance(value, str):
        parameter.string_param = value
    else:
        raise TypeError


def _text(value: object, field: str) -> str:
    if not isinstance(value, str):
        raise bad(field, value, "a string")
    return value


def _shape(value: object, field: str) -> list[int]:
    if not isinstance(value, list) or len(value) > MOST_NESTED or not all(isinstance(n, int) and not isinstance(n, bool) for n in value):
        raise bad(field, value, f"a list of at most {MOST_NESTED} whole numbers")
    if any(not -(2**63) <= n < 2**63 for n in value):
        raise bad(field, value, "whole numbers of 64 bits")
    return value


def write_response(answer: ModelInferResponse, binary: bool) -> tuple[bytes, dict[str, str]]:
    """The body and its headers: JSON, or JSON with the tensors behind it."""
    document: dict[str, Any] = {"model_name": answer.model_name, "model_version": answer.model_version}
    if answer.id:
        document["id"] = answer.id
    document["parameters"] = {name: _value(value) for name, value in answer.parameters.items()}
    if answer.raw_output_contents:
        document["outputs"] = [_output(entry, raw, binary) for entry, raw in zip(answer.outputs, answer.raw_output_contents, strict=True)]
    else:  # written to shared memory
        document["outputs"], binary = [_placed(entry) for entry in answer.outputs], False
    head = orjson.dumps(document)
    if not binary:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return b"".join((head, *answer.raw_output_contents)), headers


def _value(parameter: Any) -> str | int | float | bool:
    found: str | int | float | bool = getattr(parameter, parameter.WhichOneof("parameter_choice"))
    return found


def _output(entry: Any, raw: bytes, binary: bool) -> dict[str, Any]:
    document = {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape)}
    if binary:
        return {**document, "parameters": {BINARY_SIZE: len(raw)}}
    return {**document, "data": _strings(raw) if entry.datatype == "BYTES" else np.frombuffer(raw, "<f4").tolist()}


def _placed(entry: Any) -> dict[str, Any]:
    parameters = {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in entry.parameters.items()}
    return {"name": entry.name, "datatype": entry.datatype, "shape": list(entry.shape), "parameters": parameters}


def _strings(raw: bytes) -> list[str]:
    found, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 4], "little")
        found.append(raw[at + 4 : at + 4 + size].decode())
        at += 4 + size
    return found
