"""Several front ends of one model keep the bounds of one process, and none of them can stop the server."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from batching import FakeClock, HeldEngine, ask, settle, values_of
from resnet_server.batching.batch import Limits
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.row_queue import HIGH, LOW
from resnet_server.batching.tally import RUNNING
from resnet_server.errors import QueueFullError
from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Inbox, Outbox
from resnet_server.frontends.shared_tally import TallyMemory, allocate_tally


@asynccontextmanager
async def front_ends(count: int, max_queue: int) -> AsyncIterator[tuple[list[Batcher], list[HeldEngine], TallyMemory]]:
    """`count` batchers with an engine each, and the counts they share, as if they lived in processes of their own."""
    fd = allocate_tally(count)
    memory = TallyMemory(fd, count)
    engines = [HeldEngine() for _ in range(count)]
    limits = Limits(8, 8, max_queue)
    batchers = [Batcher([engine], limits, FakeClock(), tally=TallyMemory(fd, count).of(n)) for n, engine in enumerate(engines)]
    os.close(fd)
    await settle()
    try:
        yield batchers, engines, memory
    finally:
        for batcher in batchers:
            await batcher.close()


@pytest.mark.parametrize("count", [2, 4])
async def test_the_queue_is_bounded_for_all_together(count: int) -> None:
    async with front_ends(count, 4 * count) as (batchers, engines, memory):
        for batcher in batchers:
            await ask(batcher, 0)  # runs
        for batcher in batchers:
            await ask(batcher, 1, 2, 3, 4)
        for batcher in batchers:
            with pytest.raises(QueueFullError, match=f"the queue holds {4 * count} rows of at most {4 * count}"):
                await (await ask(batcher, 5))
        await engines[0].release()
        admitted = await ask(batchers[1], 6)  # in the room that another one has made
        assert not admitted.done()
        memory.forget(0)
        assert memory.of(1).others(RUNNING) == count - 2  # one that has died counts no more


async def test_a_class_that_fills_the_queue_elsewhere_does_not_refuse_a_higher_one_here() -> None:
    async with front_ends(2, 16) as (batchers, _, _):
        await ask(batchers[0], 0)
        await ask(batchers[1], 0)
        for _ in range(2):
            await ask(batchers[0], *range(8), priority=LOW)
        urgent = await ask(batchers[1], 7, priority=HIGH)
        assert not urgent.done()


async def test_a_batch_is_alone_only_if_no_front_end_has_another() -> None:
    async with front_ends(2, 64) as (batchers, engines, _):
        first = await ask(batchers[0], 1)
        await ask(batchers[1], 2)
        assert (engines[0].alone, engines[1].alone) == ([True], [False])
        await engines[0].release()
        assert values_of(await first) == [1]


async def test_a_process_that_does_not_read_does_not_stop_who_writes_to_it_and_gets_everything_later() -> None:
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    with ours, theirs:
        ours.setblocking(False)
        outbox = Outbox(ours)
        sent = [("text", "x" * 300_000, number) for number in range(5)]
        for message in sent:
            outbox.post(message, [write] if message[2] % 2 else ())
        os.close(write)
        assert len(outbox) > 0
        received = await asyncio.to_thread(lambda: [handoff.receive(theirs) for _ in sent])
        assert [message for message, _ in received] == sent
        assert [len(descriptors) for _, descriptors in received] == [0, 1, 0, 1, 0]
        for _, descriptors in received:
            for descriptor in descriptors:
                os.write(descriptor, b"!")
                os.close(descriptor)
        assert os.read(read, 10) == b"!!"
        assert len(outbox) == 0
        outbox.close()
    os.close(read)


def test_an_inbox_keeps_the_part_of_a_message_that_has_come() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        handoff.send(ours, ("first", 1))
        handoff.send(ours, ("second", list(range(100))))
        whole = theirs.recv(1 << 20)
        inbox, got = Inbox(), list[Any]()
        for start in range(0, len(whole), 7):
            ours.send(whole[start : start + 7])
            got += inbox.read(theirs)
        assert got == [("first", 1), ("second", list(range(100)))]
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            list(inbox.read(theirs))
        ours.close()
        with pytest.raises(EOFError):
            list(inbox.read(theirs))


async def test_what_waits_for_a_process_that_died_is_forgotten_with_its_descriptors() -> None:
    ours, theirs = socket.socketpair()
    held = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # pathlib would hold one open itself
    with ours:
        ours.setblocking(False)
        outbox = Outbox(ours)
        outbox.post(("text", "x" * 1_000_000))
        outbox.post(("text", ""), [ours.fileno()])
        assert len(os.listdir("/proc/self/fd")) == held + 1  # noqa: PTH208
        theirs.close()
        outbox.post(("text", ""))
        assert len(outbox) == 0
        assert len(os.listdir("/proc/self/fd")) == held - 1  # noqa: PTH208
