"""What a server answered is taken as logits, or named for what it is."""

import numpy as np
import pytest
from resnet_bench.errors import BenchError
from resnet_bench.requests import logits_of
from resnet_proto.open_inference_pb2 import ModelInferResponse


def answer(shape: tuple[int, ...], raw: bytes | None = None, typed: tuple[float, ...] = (), datatype: str = "FP32") -> bytes:
    response = ModelInferResponse()
    output = response.outputs.add(name="logits", datatype=datatype, shape=shape)
    output.contents.fp32_contents.extend(typed)
    if raw is not None:
        response.raw_output_contents.append(raw)
    return response.SerializeToString()


def test_raw_and_typed_contents_are_read() -> None:
    values = np.arange(6, dtype=np.float32)
    assert np.array_equal(logits_of(answer((2, 3), values.tobytes())), values.reshape(2, 3))
    assert np.array_equal(logits_of(answer((2, 3), typed=tuple(values))), values.reshape(2, 3))


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (answer((32, 10)), r"the answer has 0 values; expected those of its shape, \[32, 10\]"),
        (answer((1, 10), b"\0" * 8), r"the answer has 2 values; expected those of its shape, \[1, 10\]"),
        (answer((1, 10), b"", datatype="INT32"), "the answer has no single FP32 output"),
        (b"\xff", "the answer is not a ModelInferResponse: 1 bytes"),
    ],
)
def test_anything_else_is_one_line(message: bytes, text: str) -> None:
    with pytest.raises(BenchError, match=text):
        logits_of(message)
