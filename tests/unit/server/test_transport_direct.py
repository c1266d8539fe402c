"""Methods that the queue's thread answers by itself, over real sockets."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from echo import OPTIONS, failure, method, started
from resnet_server.transport import server as transport
from resnet_server.transport.call import Call
from resnet_server.transport.choice import new_server
from resnet_server.transport.crowd import Crowd
from resnet_server.transport.method import Method
from resnet_server.transport.server import QueueServer

Direct = Callable[[bytes, Call], None]


@asynccontextmanager
async def serving(**direct: Direct) -> AsyncIterator[tuple[QueueServer, Any]]:
    server = new_server("queue", OPTIONS).server
    assert isinstance(server, QueueServer)
    for name, behaviour in direct.items():
        server.add_direct_method(f"/test.Echo/{name}", behaviour)
    async with started(server) as channel:
        yield server, channel


def echo(message: bytes, call: Call) -> None:
    call.answer(message)


class Held:
    """Keeps its calls, and says how many it has."""

    def __init__(self) -> None:
        self.calls: dict[bytes, Call] = {}
        self.left: list[tuple[bytes, int | None]] = []
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def __call__(self, message: bytes, call: Call) -> None:
        self.calls[message] = call
        call.on_left = lambda: self._note_left(message)
        self._loop.call_soon_threadsafe(self._changed.set)

    def _note_left(self, message: bytes) -> None:
        self.left.append((message, threading.get_ident()))
        del self.calls[message]
        self._loop.call_soon_threadsafe(self._changed.set)

    async def until(self, true: Callable[[], bool]) -> None:
        while not true():
            await asyncio.wait_for(self._changed.wait(), 10)
            self._changed.clear()


async def test_calls_are_answered_on_the_queues_thread() -> None:
    threads: set[int] = set()

    def note(message: bytes, call: Call) -> None:
        threads.add(threading.get_ident())
        call.answer(message)

    async with serving(Note=note) as (_, channel):
        messages = [index.to_bytes(4, "big") * (1 + index % 500) for index in range(3000)]
        assert await asyncio.gather(*(method(channel, "Note")(message, timeout=60) for message in messages)) == messages
        assert len(threads) == 1 and threading.get_ident() not in threads


class AlwaysFull(deque[Any]):
    """An inbox that the event loop has just emptied, each time that it was seen to be full."""

    def __len__(self) -> int:
        return transport.MOST_TOLD

    def __bool__(self) -> bool:
        return super().__len__() > 0


async def test_a_direct_call_that_finds_the_inbox_full_while_the_loop_empties_it_is_not_the_last() -> None:
    async with serving(Echo=echo) as (server, channel):
        server._inbox = AlwaysFull()
        for _ in range(3):
            assert await method(channel, "Echo")(b"x", timeout=10) == b"x"


async def test_a_refusal_has_its_status_and_metadata() -> None:
    def refuse(message: bytes, call: Call) -> None:
        call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", (("grpc-retry-pushback-ms", "7"),))

    async with serving(Refuse=refuse) as (_, channel):
        error = await failure(method(channel, "Refuse")(b""))
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
    assert dict(error.trailing_metadata())["grpc-retry-pushback-ms"] == "7"


async def test_a_handler_that_fails_costs_its_own_call_only(caplog: pytest.LogCaptureFixture) -> None:
    def fail(message: bytes, call: Call) -> None:
        raise ZeroDivisionError("with a secret")

    caplog.set_level(logging.ERROR)
    async with serving(Fail=fail, Echo=echo) as (_, channel):
        error = await failure(method(channel, "Fail")(b""))
        assert await method(channel, "Echo")(b"x") == b"x"
    assert error.code() is grpc.StatusCode.UNKNOWN
    assert "secret" not in str(error.details())
    assert any("a handler failed" in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_call_without_its_message_is_refused() -> None:
    async with serving(Echo=echo) as (_, channel):
        error = await failure(channel.stream_unary("/test.Echo/Echo")(iter(()), timeout=10))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_who_leaves_is_noticed_at_once_and_what_is_answered_late_is_dropped(how: str) -> None:
    held = Held()
    async with serving(Hold=held, Echo=echo) as (server, channel):
        call = method(channel, "Hold")(b"1", timeout=0.3 if how == "deadline" else None)
        await held.until(lambda: bool(held.calls))
        late = held.calls[b"1"]
        if how == "cancel":
            call.cancel()
        with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
            await call
        await held.until(lambda: bool(held.left))
        assert held.left == [(b"1", server._poller.ident)]
        late.answer(b"too late")
        assert await method(channel, "Echo")(b"x") == b"x"
        del late


async def test_a_message_whose_caller_has_left_is_not_handled() -> None:
    handled: list[bytes] = []

    def handle(message: bytes, call: Call) -> None:
        handled.append(message)

    event: Any = SimpleNamespace(call=None, call_details=SimpleNamespace(deadline=2e12), invocation_metadata=())
    arrived: Any = SimpleNamespace(batch_operations=[SimpleNamespace(message=lambda: b"x")])
    loop = asyncio.get_running_loop()
    home: Any = SimpleNamespace(loop=loop, crowd=Crowd(loop))
    call = Call(event, Method(grpc.unary_unary_rpc_method_handler(handle), direct=True), home)
    call.left()
    assert not call.completed(arrived)
    assert handled == []


def answer_meanwhile(message: bytes, call: Call) -> None:
    """Another thread answers before this one returns."""
    other = threading.Thread(target=call.answer, args=(message,))
    other.start()
    other.join()


def turn_away(message: bytes, call: Call) -> None:
    call.refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")


async def test_a_call_that_is_answered_or_refused_at_once_takes_two_batches_and_every_call_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = Call._begin

    def count(call: Call, operations: Any, tag: Any) -> None:
        begun.append(type(tag).__name__)
        begin(call, operations, tag)

    monkeypatch.setattr(Call, "_begin", count)
    async with serving(Echo=echo, Full=turn_away, Meanwhile=answer_meanwhile) as (server, channel):
        assert await method(channel, "Echo")(b"x") == b"x"
        assert (await failure(method(channel, "Full")(b""))).code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert begun == 2 * ["Call", "SentAndClosed"]
        begun.clear()
        assert await method(channel, "Meanwhile")(b"y") == b"y"
        await asyncio.wait_for(server.crowd.gone(10), 5)  # raises where one never ends
        assert begun == ["Call", "Sent", "Closed"]


async def test_an_answer_from_another_thread_and_one_that_was_posted_arrive() -> None:
    held = Held()
    async with serving(Hold=held) as (server, channel):
        calls = [method(channel, "Hold")(bytes([index])) for index in range(20)]
        await held.until(lambda: len(held.calls) == 20)
        threads: list[int] = []

        def answer_all() -> None:
            threads.append(threading.get_ident())
            for message, call in held.calls.items():
                if message[0] != 3:
                    call.answer(message)

        held.calls[bytes([3])].answer(bytes([3]))  # from this thread, the event loop's
        held.calls[bytes([3])].post(answer_all)  # a call that is over carries work all the same
        assert await asyncio.wait_for(asyncio.gather(*calls), 10) == [bytes([index]) for index in range(20)]
        assert threads == [server._poller.ident]
        held.calls.clear()


async def test_what_is_posted_on_the_queues_thread_is_done_at_once() -> None:
    def answer(message: bytes, call: Call) -> None:
        order: list[str] = []
        call.post(lambda: order.append("posted"))
        order.append("after")
        call.answer(",".join(order).encode())

    async with serving(Answer=answer) as (_, channel):
        assert await method(channel, "Answer")(b"") == b"posted,after"


def gather_and_defer(events: int, order: list[str]) -> Direct:
    """Defers, and then lets as many events be at hand."""

    def handle(message: bytes, call: Call) -> None:
        def post_all() -> None:
            for _ in range(events):
                call.post(lambda: order.append("event"))

        call.defer(lambda: [][1])
        call.defer(lambda: order.append("deferred"))
        other = threading.Thread(target=post_all)
        other.start()
        other.join()
        call.answer(message)

    return handle


async def test_deferred_work_comes_after_the_events_at_hand_and_a_failure_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    order: list[str] = []
    async with serving(Gather=gather_and_defer(5, order), Echo=echo) as (_, channel):
        await method(channel, "Gather")(b"")
        await method(channel, "Echo")(b"")
    assert order == ["event"] * 5 + ["deferred"]
    assert any("deferred work failed" in record.getMessage() for record in caplog.records)


async def test_deferred_work_is_done_in_a_flood_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "MOST_BEFORE_DEFERRED", 8)
    order: list[str] = []
    async with serving(Gather=gather_and_defer(50, order), Echo=echo) as (_, channel):
        await method(channel, "Gather")(b"")
        await method(channel, "Echo")(b"")
    assert 1 <= order.index("deferred") <= 8
    assert order.count("event") == 50


async def test_a_server_ends_though_a_direct_call_is_never_answered() -> None:
    held = Held()
    async with serving(Hold=held) as (server, channel):
        call = method(channel, "Hold")(b"1")
        await held.until(lambda: bool(held.calls))
        await asyncio.wait_for(server.stop(0.2), 10)
        assert (await failure(call)).code() in (grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE)
        assert [message for message, _ in held.left] == [b"1"]
