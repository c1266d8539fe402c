"""The door: state and memory before all else, readiness and liveness as they are, and errors that fit into a status."""

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest
from batching import HeldEngine, ask, batching, settle
from prometheus_client import CollectorRegistry
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.held_bytes import HeldBytes
from resnet_server.endpoints.address import bare, check_unix, written
from resnet_server.endpoints.error_status import Border, status_of
from resnet_server.endpoints.grpc import door as door_module
from resnet_server.endpoints.grpc.door import Door
from resnet_server.endpoints.labels import MOST_LABELS, check_labels, first_classes
from resnet_server.errors import (
    DeadlineError,
    InvalidRequestError,
    ModelNotFoundError,
    ModelUnavailableError,
    QueueFullError,
    ServingError,
    StartError,
    UnreachableDeadlineError,
    shown,
    shown_list,
)
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.registry import Refused, Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.processes.memory import KeptMemory


def served(batcher: Batcher, name: str = "resnet20", version: str = "1") -> ServedModel:
    model = ServedModel.__new__(ServedModel)
    model.batcher, model.name, model.version, model.precision = batcher, name, version, "fp32"
    return model


async def test_memory_is_given_back_once_no_large_message_has_come_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    monkeypatch.setattr(KeptMemory, "look", lambda _: looks.append(len(looks)))
    registry = Registry()
    registry.state = "ready"
    door = Door(registry, HeldBytes(door_module.LARGE))
    for size, expected in ((1, 1), (door_module.LARGE, 1), (1, 2)):
        with door.entered(size):
            await door.settle_memory()
        assert len(looks) == expected


def test_a_message_is_judged_by_state_and_by_what_callers_hold_and_gives_back() -> None:
    registry = Registry()
    door = Door(registry, HeldBytes(100))
    for state, text in (("loading", "is loading its models"), ("draining", "is shutting down")):
        registry.state = state  # type: ignore[assignment]  # both are states
        with pytest.raises(ModelUnavailableError, match=text):
            door.enter(1)
    registry.state = "ready"
    with door.entered(60):
        with pytest.raises(QueueFullError, match="holds 60 bytes of requests; 41 more would exceed 100"):
            door.enter(41)
        door.enter(40)
    assert door.held.held == 40
    with pytest.raises(KeyError), door.entered(60):
        raise KeyError
    assert door.held.held == 40


async def test_whoever_asks_finds_what_was_or_what_is() -> None:
    async with batching([HeldEngine()]) as batcher:
        registry, old, new = Registry(), served(batcher), served(batcher, version="2")
        registry.state = "ready"
        registry.add(old)
        assert registry.find("resnet20") is registry.find("resnet20") is old
        before = registry.generation
        registry.switch([new], [old])
        assert registry.find("resnet20") is new
        assert registry.generation > before
        with pytest.raises(ModelNotFoundError, match="'1' of model 'resnet20' is unknown; served: 2"):
            registry.find("resnet20", "1")
        registry.switch([], [new])
        registry.refuse("resnet20", [Refused("resnet20", "2", "unloaded", unloaded=True)])
        with pytest.raises(ModelUnavailableError, match="model 'resnet20' version 2 is unloaded"):
            registry.find("resnet20")


async def test_a_model_is_ready_while_it_has_an_engine_and_is_given_up_after_a_while() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        registry, changes = Registry(patience=0.0), []
        model = served(batcher)
        registry.watch(lambda: changes.append(registry.is_ready))
        registry.add(model)
        registry.refused.append(Refused("other", "1", "damaged"))
        assert not registry.is_up("resnet20")
        registry.state = "ready"
        assert ready(registry) == (True, True)
        assert registry.is_up("")
        assert [registry.is_known(*name) for name in (("resnet20", "2"), ("other", "1"), ("other", ""), ("nobody", ""))] == [
            False,
            True,
            True,
            False,
        ]
        running, waiting = await ask(batcher, 1), await ask(batcher, 2)
        turn(engine, up=False)
        assert ready(registry) == (False, False)
        registry.check_up(model)  # for a while it may come back
        await asyncio.wait((waiting,))
        assert "has no engine" in str(waiting.exception())
        assert not running.done()
        with pytest.raises(ModelUnavailableError, match="model 'resnet20' version 1 has no engine"):
            registry.check_up(model)
        turn(engine, up=True)
        registry.check_up(model)
        assert ready(registry) == (True, True)
        assert changes == [False, True, False, True]
        await engine.release()
        await running


def ready(registry: Registry) -> tuple[bool, bool]:
    return registry.is_ready, registry.is_up("resnet20", "1")


def turn(engine: HeldEngine, up: bool) -> None:
    engine.ready = up
    engine.changed()


async def test_an_engine_that_comes_back_in_time_keeps_its_callers() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        registry = Registry(patience=3600.0)
        registry.add(served(batcher))
        registry.state = "ready"
        turn(engine, up=False)
        waiting = await ask(batcher, 2)
        turn(engine, up=True)
        await settle()
        await engine.release()
        assert (await waiting).batch_rows == 1


async def test_a_lock_that_nobody_gives_back_is_death(monkeypatch: pytest.MonkeyPatch) -> None:
    async with batching([HeldEngine()]) as batcher:
        registry, now = Registry(), 0.0
        registry.add(served(batcher))
        monkeypatch.setattr(door_module, "BEAT_SECONDS", 0.0)
        door = Door(registry, HeldBytes(1), lambda: now)
        door.start()
        now = door_module.DEAD_SECONDS + 1
        await settle()
        assert lives(door)
        release = hold(batcher)
        now += door_module.DEAD_SECONDS - 1
        await settle()
        assert lives(door)  # a lock may be held for a moment
        now += 2
        await settle()
        assert not lives(door)
        release()
        await settle()
        assert lives(door)
        await door.close()


def lives(door: Door) -> bool:
    return door.is_alive


def hold(batcher: Batcher) -> Callable[[], None]:
    """Take the batcher's lock on another thread; returns what gives it back."""
    lock, held, enough = batcher._lock, threading.Event(), threading.Event()

    def take() -> None:
        with lock:
            held.set()
            enough.wait()

    thread = threading.Thread(target=take)
    thread.start()
    held.wait()

    def release() -> None:
        enough.set()
        thread.join()

    return release


class KindOfError(UnreachableDeadlineError):
    """Nobody has put it into the table."""


def test_a_new_kind_of_error_has_the_status_of_its_kind() -> None:
    assert status_of(KindOfError("")) == status_of(UnreachableDeadlineError(""))
    assert status_of(DeadlineError(""))[1] == "deadline"
    assert status_of(ServingError(""))[0] is grpc.StatusCode.INTERNAL


def test_a_status_text_fits_into_the_headers_that_clients_take() -> None:
    border = Border(Metrics(CollectorRegistry()), lambda: 0.0)
    refusal = border.refusal(border.record("ModelInfer", 0.0), ModelNotFoundError("x" * 100_000))
    assert len(refusal.details) < 2100


def test_what_is_repeated_is_clipped() -> None:
    assert shown("a" * 100) == "a" * 100
    assert shown("a" * 101) == "a" * 100 + "... (101 characters)"
    assert shown_list(iter(range(8)), 8) == "0, 1, 2, 3, 4, 5, 6, 7"
    assert shown_list(iter(range(1 << 60)), 1 << 60) == f"0, 1, 2, 3, 4, 5, 6, 7, ... ({1 << 60} in all)"


def test_the_largest_come_first_and_of_equals_the_lowest() -> None:
    logits = np.random.default_rng(0).integers(0, 5, 1000).astype(np.float32)
    for k in (1, 7, 999, 1000):
        np.testing.assert_array_equal(first_classes(logits, k), np.argsort(-logits, kind="stable")[:k])


def test_labels_have_a_bound_for_each_image_and_for_an_answer() -> None:
    check_labels("top_k", 1000, 1000, MOST_LABELS // 1000)
    with pytest.raises(InvalidRequestError, match="top_k: 11; expected at most 10, the number of classes"):
        check_labels("top_k", 11, 10, 1)
    with pytest.raises(InvalidRequestError, match="top_k: 1000 for 9 images; expected at most 8192 labels in one answer"):
        check_labels("top_k", 1000, 1000, 9)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("0.0.0.0", ("0.0.0.0", "0.0.0.0:7")),  # noqa: S104  # an address to be written, not to be bound
        ("localhost", ("localhost", "localhost:7")),
        ("::", ("::", "[::]:7")),
        ("[::1]", ("::1", "[::1]:7")),
        ("unix:/a/b", ("127.0.0.1", "unix:/a/b")),
    ],
)
def test_every_host_is_written_as_sockets_and_as_grpc_take_it(host: str, expected: tuple[str, str]) -> None:
    assert (bare(host), written(host, 7)) == expected


def test_a_unix_socket_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match="is a file, not a socket"):
        check_unix(f"unix:{tmp_path}/file")
    with pytest.raises(StartError, match="is not a folder"):
        check_unix(f"unix:{tmp_path}/nowhere/socket")
    check_unix(f"unix:{tmp_path}/socket")
