"""Errors by kind, which travel between processes and name what the caller gave."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import grpc
import pytest
from clients import KINDS, ask
from resnet_client import (
    AccessError,
    Client,
    ClientError,
    DeadlineError,
    InvalidInputError,
    ModelNotFoundError,
    OverloadedError,
    UnavailableError,
    UnsupportedError,
)
from resnet_client.testing import FakeServer


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidInputError),
        (grpc.StatusCode.NOT_FOUND, ModelNotFoundError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError),
        (grpc.StatusCode.UNAUTHENTICATED, AccessError),
        (grpc.StatusCode.PERMISSION_DENIED, AccessError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.UNIMPLEMENTED, UnsupportedError),
        (grpc.StatusCode.INTERNAL, ClientError),
    ],
)
def test_each_status_has_its_kind(status: grpc.StatusCode, expected: type[ClientError], kind: str, fake: FakeServer) -> None:
    fake.fail(status, "because", times=9)
    with pytest.raises(ClientError) as error:
        ask(kind, fake.url, "classify", b"a")
    assert type(error.value) is expected
    assert (error.value.status, str(error.value)) == (status, f"{status.name}: because")


def refused(url: str) -> None:
    with Client(url) as client:
        client.classify([b"good", b"bad"])


def test_an_error_comes_whole_out_of_another_process(fake: FakeServer) -> None:
    fake.fail(grpc.StatusCode.INVALID_ARGUMENT, "images[1]: no image")  # of ListModels
    fake.fail(grpc.StatusCode.INVALID_ARGUMENT, "images[1]: no image")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool, pytest.raises(InvalidInputError):
        pool.submit(refused, fake.url).result()
    error = OverloadedError("full", retry_after=0.25).about(70, "70.png")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # made here
    assert (type(copy), str(copy), copy.__dict__) == (OverloadedError, str(error), error.__dict__)
    assert str(copy) == "RESOURCE_EXHAUSTED: images[70] (70.png): full"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid:1", "unix:/nowhere/none.sock"])
def test_no_server_is_one_line_without_what_grpc_tried(address: str, kind: str) -> None:
    with pytest.raises(UnavailableError) as error:
        ask(kind, address, "models")
    assert str(error.value).startswith(f"UNAVAILABLE: no server answers at {address} (")
    assert not error.value.maybe_computed
    assert not any(word in str(error.value) for word in ("ipv4", "last error", "errno", "[field", "\n"))
