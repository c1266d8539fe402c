"""When a call is sent again: as the server says, within the deadline, and not with what kills engines."""

import time
from typing import Any

import grpc
import pytest
from clients import KINDS, ask
from resnet_client import ClientError, OverloadedError, UnavailableError
from resnet_client.errors import InvalidInputError
from resnet_client.retries import LEAST_PAUSE, MOST_GROWTH, SPREAD, Attempts
from resnet_client.testing import FakeServer
from tenacity import Future, RetryCallState, Retrying

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
PHOTOGRAPH = bytes(1 << 20)
"""More than the 256 KiB that gRPC keeps for a call that it may have to repeat."""


def failed_with(error: ClientError, attempt: int = 1) -> RetryCallState:
    state = RetryCallState(Retrying(), None, (), {})
    state.attempt_number = attempt
    state.outcome = Future(attempt)
    state.outcome.set_exception(error)
    return state


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("image", [b"small", PHOTOGRAPH], ids=["small", "large"])
def test_a_full_server_is_asked_again_until_it_has_room(image: bytes, kind: str, fake: FakeServer) -> None:
    fake.fail(FULL, "full", times=7, retry_after=0.01)
    assert len(ask(kind, fake.url, "classify", image)) == 1
    assert len(fake.calls) == 8


def test_the_hint_is_waited_for_and_callers_are_spread() -> None:
    pauses = [Attempts(0).pause(failed_with(OverloadedError("full", retry_after=2.0))) for _ in range(200)]
    assert 2.0 <= min(pauses) < 2.0 + SPREAD < max(pauses) <= 2.0 * (1 + SPREAD)


def test_pauses_grow_from_the_hint_and_leave_time_for_a_late_attempt() -> None:
    error = OverloadedError("full", retry_after=0.1)
    for attempt, times in enumerate((1, 2, 4, MOST_GROWTH, MOST_GROWTH), start=1):
        pause = Attempts(time.monotonic() + 3600).pause(failed_with(error, attempt))
        assert 0.1 * times <= pause <= 0.1 * times * (1 + SPREAD)
    assert Attempts(time.monotonic() + 0.6).pause(failed_with(error, 5)) <= 0.3, "half of the time left"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hint_that_is_too_short_is_not_followed_to_the_letter(kind: str, fake: FakeServer) -> None:
    fake.fail(FULL, "full", times=1_000_000, retry_after=0.001)
    with pytest.raises(OverloadedError):
        ask(kind, fake.url, "classify", b"a", timeout=1)
    assert 5 <= len(fake.calls) <= 1 + 1 / (2 * LEAST_PAUSE), "callers used to ask hundreds of times"


def test_without_a_hint_waits_are_random_and_grow() -> None:
    found = [[Attempts(0).pause(failed_with(UnavailableError("gone"), attempt)) for _ in range(200)] for attempt in (1, 2, 3)]
    assert max(found[0]) < max(found[1]) < max(found[2])
    assert len({*found[0]}) > 100


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_without_a_hint_is_not_sent_again(kind: str, fake: FakeServer) -> None:
    fake.fail(FULL, "Received message larger than max")
    with pytest.raises(OverloadedError) as error:
        ask(kind, fake.url, "classify", b"a")
    assert (error.value.retry_after, len(fake.calls)) == (None, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hint_beyond_the_deadline_is_the_callers_to_follow(kind: str, fake: FakeServer) -> None:
    fake.fail(FULL, "full", retry_after=3600)
    with pytest.raises(OverloadedError, match="full") as error:
        ask(kind, fake.url, "classify", b"a", timeout=60)
    assert (error.value.retry_after, len(fake.calls)) == (3600, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_all_attempts_share_one_deadline(kind: str, fake: FakeServer) -> None:
    fake.fail(FULL, "full", times=1_000_000, retry_after=0.02)
    with pytest.raises(ClientError):
        ask(kind, fake.url, "classify", b"a", timeout=1)
    left = [call.time_remaining for call in fake.calls]
    assert len(left) > 3
    assert left[-1] < 1 - 0.02 * (len(left) - 2), "each attempt has at least a pause less than the one before"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("maybe", "attempts"), [(False, 4), (True, 2), (None, 2)], ids=["nothing computed", "engine died", "not said"])
@pytest.mark.parametrize("image", [b"small", PHOTOGRAPH], ids=["small", "large"])
def test_a_call_is_repeated_more_carefully_if_an_engine_may_have_died_of_it(
    image: bytes, maybe: bool | None, attempts: int, kind: str, fake: FakeServer
) -> None:
    fake.fail(times=attempts - 1, maybe_computed=maybe)
    assert len(ask(kind, fake.url, "classify", image)) == 1
    assert len(fake.calls) == attempts
    fake.fail(times=100, maybe_computed=maybe)
    with pytest.raises(UnavailableError) as error:
        ask(kind, fake.url, "classify", image)
    assert error.value.maybe_computed is (maybe is not False)
    assert len(fake.calls) == 2 * attempts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [grpc.StatusCode.INTERNAL, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_nothing_else_is_sent_again(status: grpc.StatusCode, kind: str, fake: FakeServer) -> None:
    fake.fail(status)
    with pytest.raises(ClientError):
        ask(kind, fake.url, "classify", b"a")
    assert len(fake.calls) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_server_is_told_the_deadline(kind: str, fake: FakeServer) -> None:
    ask(kind, fake.url, "classify", b"a", timeout=500)
    ask(kind, fake.url, "classify", b"a", options={"timeout": 400})
    remaining: list[Any] = [call.time_remaining for call in fake.calls]
    assert 1.01 * 400 < remaining[0] <= 1.01 * 500  # on the wire gRPC rounds up to three digits
    assert 390 < remaining[1] <= 1.01 * 400


def test_an_input_is_never_sent_again() -> None:
    assert not Attempts(1e9).again(failed_with(InvalidInputError("no")))
