"""Jobs of any size: a window of calls, each image's own result, and failures that cost no more than they must."""

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from clients import KINDS, ask
from resnet_client import (
    AsyncClient,
    Client,
    ClientError,
    InvalidInputError,
    ModelNotFoundError,
    Outcome,
    UnavailableError,
)
from resnet_client.jobs import CLASSIFY_ROWS
from resnet_client.testing import FakeServer, RefusedImageError

NUMBER_70 = 70
HOUR = 3600.0
"""Calls that nobody cancels are waited for longer than any test may take."""


def by_content(image: bytes) -> list[float]:
    """Logits that tell images apart; what begins with `bad` is none."""
    if image.startswith(b"bad"):
        raise RefusedImageError("not a JPEG, PNG or WebP image")
    return [0.0, float(int(image))]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(answer=by_content) as running:
        yield running


@pytest.fixture
def hundred(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{index}.png" for index in range(100)]
    for index, path in enumerate(paths):
        path.write_text("bad" if index == NUMBER_70 else str(index))
    return paths


def logits(outcomes: list[Outcome]) -> list[float | None]:
    return [next(x.logit for x in o.prediction.labels if x.index == 1) if o.prediction else None for o in outcomes]


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_file_of_a_hundred_is_named_and_the_others_are_answered(kind: str, server: FakeServer, hundred: list[Path]) -> None:
    found = ask(kind, server.url, "classify_stream", hundred)
    assert logits(found) == [None if index == NUMBER_70 else float(index) for index in range(100)]
    assert [(outcome.index, outcome.source) for outcome in found] == [(index, str(path)) for index, path in enumerate(hundred)]
    error = found[NUMBER_70].error
    assert isinstance(error, InvalidInputError)
    assert str(error) == f"INVALID_ARGUMENT: images[70] ({hundred[NUMBER_70]}): not a JPEG, PNG or WebP image"
    with pytest.raises(InvalidInputError):
        found[NUMBER_70].get()


@pytest.mark.parametrize("kind", KINDS)
def test_classify_names_the_callers_own_file(kind: str, server: FakeServer, hundred: list[Path]) -> None:
    with pytest.raises(InvalidInputError) as error:
        ask(kind, server.url, "classify", hundred)
    assert (error.value.index, error.value.source) == (NUMBER_70, str(hundred[NUMBER_70]))


@pytest.mark.parametrize("kind", KINDS)
def test_any_number_of_bad_images_costs_only_them(kind: str, server: FakeServer, tmp_path: Path) -> None:
    bad = {0, 3, 4, 15, 16, 31, 32}
    images: list[Any] = [b"bad" if index in bad else str(index).encode() for index in range(33)]
    images[5], images[6] = tmp_path / "absent.png", b""
    found = ask(kind, server.url, "classify_stream", images)
    assert logits(found) == [None if index in bad | {5, 6} else float(index) for index in range(33)]
    assert "absent.png): cannot be read" in str(found[5].error)


@pytest.mark.parametrize("kind", KINDS)
def test_what_every_call_would_meet_ends_the_stream(kind: str, server: FakeServer) -> None:
    with pytest.raises(ModelNotFoundError):
        ask(kind, server.url, "classify_stream", [b"1"] * 40, model="another")
    with pytest.raises(InvalidInputError, match="top_k: 3; expected 0 to 2"):
        ask(kind, server.url, "classify_stream", [b"1"] * 40, top_k=3)
    with pytest.raises(UnavailableError):
        ask(kind, "127.0.0.1:1", "classify_stream", [b"1"] * 40)


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_that_an_engine_died_of_costs_its_own_images(kind: str, server: FakeServer) -> None:
    def dies(image: bytes) -> list[float]:
        if image == b"17":
            server.fail(maybe_computed=True)  # the next attempt, too
            raise RefusedImageError("stands for the engine's death")
        return by_content(image)

    server.answer = dies
    server.fail(maybe_computed=False)  # of ListModels: it is asked again
    found = ask(kind, server.url, "classify_stream", [str(n).encode() for n in range(40)], options={"window": 1})
    assert [outcome.index for outcome in found if outcome.error] == [17]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_of_one_call_is_its_images_error_and_the_rest_goes_on(kind: str, server: FakeServer) -> None:
    def upsets_the_next(image: bytes) -> list[float]:
        if image == b"3":
            server.fail(grpc.StatusCode.INTERNAL, "bug")
        return by_content(image)

    server.answer = upsets_the_next
    found = ask(kind, server.url, "classify_stream", [str(n).encode() for n in range(40)], options={"window": 1})
    assert {outcome.index for outcome in found if outcome.error} == set(range(CLASSIFY_ROWS, 2 * CLASSIFY_ROWS))
    assert str(found[20].error) == "INTERNAL: images[20]: bug"


def counted(pulled: list[int]) -> Iterator[bytes]:
    for index in itertools.count():
        pulled.append(index)
        yield str(index).encode()


def test_a_stream_without_end_is_read_a_window_ahead_and_no_further(server: FakeServer) -> None:
    pulled: list[int] = []
    with Client(server.url, window=3) as client:
        stream = client.classify_stream(counted(pulled), timeout=HOUR)
        assert next(stream).index == 0
        stream.close()
    assert 3 * CLASSIFY_ROWS < len(pulled) <= 4 * CLASSIFY_ROWS + 2


async def test_an_asynchronous_stream_is_read_a_window_ahead_and_can_be_left(server: FakeServer) -> None:
    pulled: list[int] = []
    async with AsyncClient(server.url, window=3) as client:
        stream = client.classify_stream(counted(pulled))
        assert (await anext(stream)).index == 0
        with server.held():
            await stream.aclose()
    assert 3 * CLASSIFY_ROWS < len(pulled) <= 4 * CLASSIFY_ROWS + 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_failure_is_raised_while_earlier_calls_still_run(kind: str, server: FakeServer) -> None:
    with_40 = threading.Event()

    def answer(image: bytes) -> list[float]:
        if image == b"0":
            with_40.wait()  # set once the failure has been raised
        return by_content(image)

    server.answer = answer
    images = [b"bad" if index == 40 else str(index).encode() for index in range(64)]
    try:
        with pytest.raises(InvalidInputError, match=r"images\[40\]"):
            ask(kind, server.url, "classify", images, timeout=HOUR)
    finally:
        with_40.set()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["array", "generator"])
def test_many_rows_go_in_calls_of_what_the_server_takes(form: str, kind: str, fake: FakeServer) -> None:
    fake.answer = lambda pixels: [float(int.from_bytes(pixels[:2], "little")), 0.0]
    images = np.zeros((5000, 2, 2, 3), np.uint8)
    images.reshape(5000, 12)[:, :2] = np.arange(5000, dtype="<u2").view(np.uint8).reshape(5000, 2)
    found = ask(kind, fake.url, "infer", images if form == "array" else iter(images))
    np.testing.assert_array_equal(found[:, 0], np.arange(5000))
    assert len([call for call in fake.calls if call.method == "ModelInfer"]) == -(-5000 // fake.max_batch_rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["classify", "infer"])
def test_a_row_limit_that_shrank_is_learned(method: str, kind: str, fake: FakeServer) -> None:
    class Restarts(list[Any]):
        """Once the limit was asked for, the server takes fewer rows."""

        def append(self, call: Any) -> None:
            super().append(call)
            if call.method != "ListModels":
                fake.max_batch_rows = 5

    fake.calls = Restarts()
    given: Any = [bytes([n]) for n in range(1, 41)] if method == "classify" else np.arange(40 * 3, dtype=np.uint8).reshape(40, 1, 1, 3)
    assert len(ask(kind, fake.url, method, given)) == 40
    rows = [len(c.request.images) if method == "classify" else c.request.inputs[0].shape[0] for c in fake.calls if c.method != "ListModels"]
    assert sum(count for count in rows if count <= 5) == 40


@pytest.mark.parametrize("method", ["classify", "infer"])
def test_a_row_limit_that_was_learned_is_kept(method: str, fake: FakeServer) -> None:
    given: Any = [bytes([n]) for n in range(1, 41)] if method == "classify" else np.arange(40 * 3, dtype=np.uint8).reshape(40, 1, 1, 3)
    with Client(fake.url, window=1) as client:
        getattr(client, method)(given)
        fake.max_batch_rows = 5
        getattr(client, method)(given)
        before = len(fake.calls)
        getattr(client, method)(given)
    assert [call.method for call in fake.calls[before:]] == [fake.calls[-1].method] * 8


def test_a_model_that_is_not_ready_at_first_is_asked_for_again(fake: FakeServer) -> None:
    images = np.zeros((20, 1, 1, 3), np.uint8)
    with Client(fake.url) as client:
        with pytest.raises(ModelNotFoundError):
            client.infer(images, model="later")
        fake.model = "later"
        client.infer(images, model="later")
    assert fake.calls[-1].request.inputs[0].shape[0] == 20


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_of_another_length_is_an_error(kind: str, fake: FakeServer) -> None:
    fake._logits = lambda images, context: np.zeros((1, 2), np.float32)  # type: ignore[method-assign]  # a server with a bug
    with pytest.raises(ClientError, match="1 answers came back for 3 images"):
        ask(kind, fake.url, "classify", [b"1", b"2", b"3"])
    with pytest.raises(ClientError, match="1 rows of logits came back for 3 images"):
        ask(kind, fake.url, "infer", np.zeros((3, 1, 1, 3), np.uint8))
