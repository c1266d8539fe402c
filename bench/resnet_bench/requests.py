"""Requests, built and serialised before the load begins, and answers read back."""

import struct
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse, ModelMetadataResponse

from resnet_bench.errors import BenchError

METHOD = "/inference.GRPCInferenceService/ModelInfer"
DTYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
"""Datatypes of the Open Inference Protocol; BYTES has no fixed size and cannot be made up."""

DISTINCT = 32  # different requests of one load: enough that no cache answers, few enough to build at once
SEED = 20
PREFIX = struct.Struct(">BI")  # gRPC over HTTP/2, "Length-Prefixed-Message": compressed flag, length


@dataclass(frozen=True)
class Tensor:
    """An input: name, the protocol's datatype, and shape with -1 where the rows go."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def sized(self, rows: int) -> tuple[int, ...]:
        """The shape with `rows`; raises BenchError where more than one size is open, or rows are asked of a fixed shape."""
        if self.shape.count(-1) > 1:
            raise BenchError(f"input: '{self.name}' has shape {list(self.shape)}; say its size with --input NAME:DATATYPE:SHAPE")
        if rows != 1 and -1 not in self.shape:
            raise BenchError(f"rows: {rows}; '{self.name}' has the fixed shape {list(self.shape)}, expected 1")
        return tuple(rows if size == -1 else size for size in self.shape)


@dataclass(frozen=True)
class Requests:
    """Serialised ModelInferRequests to send in turn.

    `images` UINT8 [rows, h, w, 3] are those of the first. `classes` holds the reference's top-1 of each one's rows, `expected` FP32
    [rows, classes] what raw ONNX Runtime answers to the first, `allowed` how far an answer may be off; None where unknown.
    """

    key: str
    data: tuple[bytes, ...]
    classes: tuple[NDArray[np.int64], ...] | None = None
    images: NDArray[np.uint8] | None = None
    expected: NDArray[np.float32] | None = None
    allowed: float = 0.0

    def check(self, logits: NDArray[np.float32], who: str) -> None:
        """Raise BenchError naming the difference if logits of the first request are not what raw ONNX Runtime gives."""
        if self.expected is None:
            return
        if logits.shape != self.expected.shape:
            raise BenchError(f"{who}: {self.key} answered {logits.shape}; expected logits {self.expected.shape}")
        error = float(np.abs(logits - self.expected).max())
        if not error <= self.allowed:
            raise BenchError(f"{who}: {self.key} is off by {error:.3g} from raw ONNX Runtime; expected at most {self.allowed:.3g}")


def tensors_of(metadata: ModelMetadataResponse) -> tuple[Tensor, ...]:
    """The inputs that a server describes; raises BenchError where it describes none."""
    if not metadata.inputs:
        raise BenchError(f"input: the server does not describe the inputs of '{metadata.name}'; say them with --input")
    return tuple(Tensor(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in metadata.inputs)


def generated(model: str, version: str, tensors: tuple[Tensor, ...], rows: int, timeout: float | None = None) -> Requests:
    """Requests of noise for any model."""
    random = np.random.default_rng(SEED)
    data = []
    for _ in range(DISTINCT):
        request = _request(model, version, timeout)
        for tensor in tensors:
            shape = tensor.sized(rows)
            request.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
            request.raw_input_contents.append(_noise(random, tensor, shape).tobytes())
        data.append(request.SerializeToString())
    return Requests(f"{model}/{version}/{rows}/{timeout}", tuple(data))


def _noise(random: np.random.Generator, tensor: Tensor, shape: tuple[int, ...]) -> NDArray[np.generic]:
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise BenchError(f"input: '{tensor.name}' is {tensor.datatype}; expected one of {', '.join(DTYPES)}")
    if np.issubdtype(dtype, np.floating):
        return random.random(shape, np.float32).astype(dtype)
    return random.integers(0, 2 if dtype is np.bool_ else 128, shape).astype(dtype)


def image_request(model: str, version: str, name: str, images: NDArray[np.uint8], timeout: float | None = None) -> bytes:
    """One serialised request; `timeout` seconds travel as the request's parameter, so that late answers still arrive."""
    request = _request(model, version, timeout)
    request.inputs.add(name=name, datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    return request.SerializeToString()


def _request(model: str, version: str, timeout: float | None) -> ModelInferRequest:
    request = ModelInferRequest(model_name=model, model_version=version)
    if timeout is not None:
        request.parameters["timeout"].int64_param = round(1e6 * timeout)  # microseconds
    return request


def framed(message: bytes) -> bytes:
    """The message as it stands in an HTTP/2 body."""
    return PREFIX.pack(0, len(message)) + message


def logits_of(answer: bytes) -> NDArray[np.float32]:
    """FP32 [n, classes] of a ModelInferResponse, raw or as typed contents; raises BenchError for anything else."""
    try:
        response = ModelInferResponse.FromString(answer)
    except DecodeError:
        raise BenchError(f"the answer is not a ModelInferResponse: {len(answer)} bytes") from None
    if len(response.outputs) != 1 or response.outputs[0].datatype not in ("FP32", ""):
        raise BenchError("the answer has no single FP32 output to compare with the reference")
    output, raw = response.outputs[0], response.raw_output_contents
    values = np.frombuffer(raw[0], np.float32) if raw else np.array(output.contents.fp32_contents, np.float32)
    try:
        return values.reshape(tuple(output.shape))
    except ValueError:
        raise BenchError(f"the answer has {values.size} values; expected those of its shape, {list(output.shape)}") from None
