"""Requests known again by their first bytes: only those that are really the same but for their images."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from resnet_proto.open_inference_pb2 import ModelInferRequest
from resnet_server.endpoints.grpc.known_requests import MOST_BYTES, Checked, KnownRequests
from resnet_server.endpoints.infer_message import read_message
from resnet_server.endpoints.parameters import Parameters
from resnet_server.models.served_model import ServedModel

SHAPE = (2, 4, 4, 3)


def request_of(data: bytes, model: str = "a", identity: str = "") -> ModelInferRequest:
    request = ModelInferRequest(model_name=model, id=identity)
    request.inputs.add(name="image", datatype="UINT8", shape=SHAPE)
    request.raw_input_contents.append(data)
    return request


def pixels(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, SHAPE, np.uint8).tobytes()


def checked(model: str = "a", shape: tuple[int, ...] = SHAPE) -> Checked:
    named = ServedModel.__new__(ServedModel)
    named.name = model
    return Checked(named, Parameters(), "", 0, shape)


def remembering(*requests: ModelInferRequest) -> KnownRequests:
    recogniser = KnownRequests()
    for request in requests:
        shape = SHAPE if len(request.raw_input_contents[0]) == 96 else (len(request.raw_input_contents[0]),)
        show_twice(recogniser, request.SerializeToString(), checked(request.model_name, shape))
    return recogniser


def show_twice(recogniser: KnownRequests, message: bytes, what: Checked) -> None:
    for _ in range(2):
        recogniser.remember(read_message(message), what)


def test_the_next_one_is_known_and_its_images_are_its_own() -> None:
    recogniser = remembering(request_of(pixels(0)))
    known = recogniser.recognise(request_of(pixels(1)).SerializeToString())
    assert known is not None
    assert known[1].shape == SHAPE
    assert known[1].tobytes() == pixels(1)


def test_models_with_names_of_one_length_are_told_apart() -> None:
    recogniser = remembering(request_of(pixels(0), "a"), request_of(pixels(0), "b"))
    for name in ("a", "b"):
        known = recogniser.recognise(request_of(pixels(1), name).SerializeToString())
        assert known is not None
        assert known[0].model.name == name
    assert recogniser.recognise(request_of(pixels(1), "c").SerializeToString()) is None


def test_what_was_found_before_other_models_came_is_not_known_any_more() -> None:
    recogniser, message = remembering(request_of(pixels(0))), request_of(pixels(1)).SerializeToString()
    assert recogniser.recognise(message, 0) is not None
    assert recogniser.recognise(message, 1) is None
    recogniser.forget()
    assert (recogniser.recognise(message, 0), recogniser.held_bytes) == (None, 0)


def test_one_with_an_id_is_neither_remembered_nor_taken_for_another() -> None:
    assert remembering(request_of(pixels(0), identity="7")).recognise(request_of(pixels(0), identity="7").SerializeToString()) is None
    assert remembering(request_of(pixels(0))).recognise(request_of(pixels(0), identity="7").SerializeToString()) is None


def test_a_message_that_goes_on_behind_its_images_is_not_remembered() -> None:
    data = pixels(0)
    tail = ModelInferRequest(raw_input_contents=(data,)).SerializeToString()  # protobuf takes a second element from it
    message = request_of(data).SerializeToString() + tail
    recogniser = KnownRequests()
    show_twice(recogniser, message, checked())
    assert recogniser.recognise(message) is None
    size = bytes((len(tail),)) if len(tail) < 128 else bytes((len(tail) & 127 | 128, len(tail) >> 7))
    unknown = b"\xa2\x06" + size + tail
    hidden = request_of(data).SerializeToString() + unknown  # field 100 holds what looks like images at the end
    show_twice(recogniser, hidden, checked())
    assert recogniser.recognise(hidden) is None


@given(st.binary(min_size=1, max_size=300), st.binary(max_size=300))
def test_whatever_is_recognised_is_what_protobuf_reads(first: bytes, second: bytes) -> None:
    """Damaged messages, too: a head is only a head if nothing but the images differs."""
    original = request_of(first)
    recogniser = remembering(original)
    message = original.SerializeToString()
    other = message[: -len(first)] + (second + first)[: len(first)]
    known = recogniser.recognise(other)
    if known is not None:
        assert ModelInferRequest.FromString(other).raw_input_contents[0] == known[1].tobytes()


def test_a_head_that_came_once_or_is_long_is_not_kept() -> None:
    recogniser, data = KnownRequests(), pixels(0)
    for number in range(20_000):  # with a trace's number each
        request = request_of(data)
        request.parameters["trace"].string_param = f"{number:08}"
        recogniser.remember(read_message(request.SerializeToString()), checked())
    assert recogniser.held_bytes == 0
    request.parameters["trace"].string_param = "x" * 2000
    show_twice(recogniser, request.SerializeToString(), checked())
    assert recogniser.held_bytes == 0


def test_what_is_kept_has_a_bound_in_bytes() -> None:
    recogniser = KnownRequests()
    for length in range(1, 4000):  # a head of every length, and 900 bytes each
        show_twice(recogniser, request_of(bytes(length), "m" * 860).SerializeToString(), checked("m" * 860, (length,)))
        assert recogniser.held_bytes <= MOST_BYTES
    assert recogniser.held_bytes > MOST_BYTES // 4
    assert recogniser.recognise(request_of(bytes(3999), "m" * 860).SerializeToString()) is not None
