"""Requests taken apart on the wire: what protobuf would read, and a bound on everything before anything is made of it."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_proto.open_inference_pb2 import InferTensorContents, ModelInferRequest
from resnet_server.endpoints.infer_message import count_numbers, read_bytes, read_message
from resnet_server.errors import InvalidRequestError

MEBIBYTE = 1 << 20
texts = st.text(max_size=20)
parameters = st.dictionaries(texts, st.integers(-(2**63), 2**63 - 1), max_size=3)


@st.composite
def requests(draw: st.DrawFn) -> ModelInferRequest:
    request = ModelInferRequest(model_name=draw(texts), model_version=draw(texts), id=draw(texts))
    for name, value in draw(parameters).items():
        request.parameters[name].int64_param = value
    for shape in draw(st.lists(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=5), max_size=3)):
        tensor = request.inputs.add(name=draw(texts), datatype=draw(texts), shape=shape)
        tensor.contents.uint_contents.extend(draw(st.lists(st.integers(0, 2**32 - 1), max_size=5)))
        tensor.contents.fp32_contents.extend(draw(st.lists(st.just(1.5), max_size=2)))
        tensor.parameters[draw(texts)].string_param = draw(texts)
    for name in draw(st.lists(texts, max_size=2)):
        request.outputs.add(name=name).parameters["classification"].int64_param = 3
    request.raw_input_contents.extend(draw(st.lists(st.binary(max_size=300), max_size=3)))
    return request


@given(requests())
def test_everything_is_what_protobuf_reads(request: ModelInferRequest) -> None:
    found = read_message(request.SerializeToString())
    assert [found.raw_bytes(i).tobytes() for i in range(len(found.raw))] == list(request.raw_input_contents)
    typed = [value for tensor in request.inputs for value in tensor.contents.uint_contents]
    assert count_numbers(found.message, found.typed.get("uint_contents", [])) == len(typed)
    assert ("fp32_contents" in found.typed) == any(tensor.contents.fp32_contents for tensor in request.inputs)
    assert found.has_contents == any(tensor.HasField("contents") for tensor in request.inputs)
    del request.raw_input_contents[:]
    for tensor in request.inputs:
        tensor.ClearField("contents")
    assert found.request == request


@pytest.mark.parametrize("number", [5, 7])  # inputs, raw_input_contents
def test_a_field_of_another_kind_with_the_number_of_contents_is_none(number: int) -> None:
    found = read_message(bytes((number << 3 | 5,)) + b"abcd")  # of four bytes, not of a length
    assert not found.raw
    assert not found.request.inputs


@given(st.lists(st.integers(0, 255), min_size=1, max_size=50), st.integers(0, 10))
def test_typed_numbers_are_read_across_chunks(values: list[int], seed: int) -> None:
    many = np.random.default_rng(seed).choice(values, 2 * MEBIBYTE // 3).tolist() if seed == 0 else values
    found = read_message(typed(many))
    spans = found.typed["uint_contents"]
    assert count_numbers(found.message, spans) == len(many)
    assert read_bytes(found.message, spans, len(many)).tolist() == many


@pytest.mark.parametrize("value", [256, 300, 2**14, 2**32 - 1])
def test_the_first_number_above_255_is_named(value: int) -> None:
    found = read_message(typed([1, 200, value, 70_000]))
    with pytest.raises(InvalidRequestError, match=f"a value of {value}; expected 0 to 255"):
        read_bytes(found.message, found.typed["uint_contents"], 4)


def typed(values: list[int]) -> bytes:
    request = ModelInferRequest()
    request.inputs.add().contents.uint_contents.extend(values)
    return request.SerializeToString()


@pytest.mark.parametrize("message", [b"\xff", b"\x0a\xff", b"\x3a\x05ab", b"\x0f", b"\x00\x00", b"\x0a\x02\xff\xfe"])
def test_what_is_no_request_is_one_clear_error(message: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="bytes that are no ModelInferRequest"):
        read_message(message)


def repeated(part: bytes, size: int = 64 * MEBIBYTE) -> bytes:
    return part * (size // len(part))


def nested(number: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size > 127:
        length += bytes((size & 127 | 128,))
        size >>= 7
    return bytes((number << 3 | 2,)) + length + bytes((size,)) + content


HOSTILE = {
    "empty inputs": (repeated(b"\x2a\x00"), "more than 4096 fields"),
    "parameters": (repeated(nested(4, nested(1, b"abc"))), "more than 4096 fields"),
    "parameters of an input": (nested(5, repeated(nested(4, b""))), "more than 4096 fields"),
    "parameters of an output": (nested(6, repeated(nested(2, b""))), "more than 4096 fields"),
    "inside of a parameter": (nested(4, nested(2, repeated(b"\x10\x01"))), "more than 4096 fields"),
    "fields that nobody knows": (repeated(b"\x98\x06\x01"), "more than 4096 fields"),
    "dimensions": (nested(5, nested(3, repeated(b"\x01"))), "bytes of dimensions; expected at most 1024"),
    "a name": (nested(1, repeated(b"n")), "model_name: 67108864 bytes; expected at most 4096"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_message_of_64_mib_costs_no_more_than_itself(case: str) -> None:
    message, text = HOSTILE[case]
    tracemalloc.start()
    try:
        with pytest.raises(InvalidRequestError, match=text):
            read_message(message)
        assert tracemalloc.get_traced_memory()[1] < 2 * MEBIBYTE
    finally:
        tracemalloc.stop()


def test_typed_contents_of_64_mib_are_counted_not_parsed() -> None:
    contents = InferTensorContents(uint_contents=[1]).SerializeToString()[:1] + nested(4, repeated(b"\x01"))[1:]
    message = nested(5, nested(5, contents))
    tracemalloc.start()
    started = time.process_time()
    try:
        found = read_message(message)
        assert count_numbers(message, found.typed["uint_contents"]) == 64 * MEBIBYTE
        assert tracemalloc.get_traced_memory()[1] < 4 * MEBIBYTE
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 2  # protobuf and numpy took 8 s, on one thread that serves all
