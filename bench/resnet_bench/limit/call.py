"""One call: the message, the answer that raw ONNX Runtime gives, and the check of a server's answer against it."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
from numpy.typing import NDArray
from resnet_proto.open_inference_pb2 import ModelInferRequest, ModelInferResponse

from resnet_bench.errors import BenchError
from resnet_bench.isolated import isolated
from resnet_bench.limit.published import Published

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
ANSWER_SECONDS = 120.0
PREFIX = struct.Struct(">BI")  # gRPC over HTTP/2, "Length-Prefixed-Message": compressed flag, length
# Share of the largest logit that an answer may be off: summation order in fp32, a rounding step where it is quantised.
TOLERANCE = {"fp32": 1e-3, "fp16": 2e-2, "int8": 5e-2}


@dataclass(frozen=True)
class Call:
    """`images` UINT8 [rows, h, w, 3], the message that carries them, and `expected` FP32 [rows, classes]."""

    model: str
    precision: str
    images: NDArray[np.uint8]
    message: bytes
    expected: NDArray[np.float32]

    @property
    def rows(self) -> int:
        """Images in the call."""
        return len(self.images)

    def check(self, logits: NDArray[np.float32], who: str) -> None:
        """Raise BenchError naming the difference if the logits are not what raw ONNX Runtime gives."""
        if logits.shape != self.expected.shape:
            raise BenchError(f"void: {who}: {self.model} answered {logits.shape}; expected logits {self.expected.shape}")
        allowed = TOLERANCE[self.precision] * max(1.0, float(np.abs(self.expected).max()))
        error = float(np.abs(logits - self.expected).max())
        if not error <= allowed:
            raise BenchError(f"void: {who}: {self.model} is off by {error:.3g} from raw ONNX Runtime; expected at most {allowed:.3g}")


def make_call(published: Published, rows: int, timeout_us: int | None = None) -> Call:
    """A call of `rows` images, with raw ONNX Runtime's answer computed in a fresh process; `timeout_us` as request parameter."""
    images = np.ascontiguousarray(published.material.window(0, rows).images)
    request = ModelInferRequest(model_name=published.name)
    if timeout_us is not None:
        request.parameters["timeout"].int64_param = timeout_us
    request.inputs.add(name=published.manifest.input.name, datatype="UINT8", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    expected = isolated(_raw_logits, published.path, images)
    return Call(published.name, published.precision, images, request.SerializeToString(), expected)


def framed(message: bytes) -> bytes:
    """The message as it stands in an HTTP/2 body."""
    return PREFIX.pack(0, len(message)) + message


def ask_grpc(url: str, call: Call) -> tuple[NDArray[np.float32], int]:
    """Send the call once; return logits and the size of the answer's body. Raises BenchError if the call fails."""
    with grpc.insecure_channel(url, options=OPTIONS) as channel:
        send: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        try:
            answer: bytes = send(call.message, timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise BenchError(f"void: {call.model}: a call to {url} failed: {status_of(error)}") from None
    return logits_of(answer), len(framed(answer))


def status_of(error: Exception) -> str:
    """Status and text of a failed call; the stubs do not know that the error is the call."""
    return f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)


def logits_of(answer: bytes) -> NDArray[np.float32]:
    """The answer's first output, raw or as typed contents."""
    response = ModelInferResponse.FromString(answer)
    output = response.outputs[0]
    if response.raw_output_contents:
        flat = np.frombuffer(response.raw_output_contents[0], np.float32)
    else:
        flat = np.array(output.contents.fp32_contents, np.float32)
    return flat.reshape(tuple(output.shape))


def write_body(folder: Path, call: Call) -> Path:
    """Write the framed message into `folder` for h2load."""
    path = folder / f"{call.model}-{call.precision}-{call.rows}.grpc"
    path.write_bytes(framed(call.message))
    return path


def _raw_logits(path: Path, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    logits: NDArray[np.float32] = session.run(None, {"image": images})[0]
    return logits
