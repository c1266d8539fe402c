"""The batcher between threads: requests from several at once, answers where those who asked live, deadlines, and no one lost."""

import asyncio
import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pytest
from batching import FakeClock, HeldEngine, ask, batching, image, settle, values_of
from resnet_server.batching.batch import Limits
from resnet_server.batching.batcher import Batcher
from resnet_server.batching.cost_model import CostModel
from resnet_server.batching.deadlines import SLACK, Deadlines
from resnet_server.batching.row_queue import NORMAL
from resnet_server.batching.ticket import Ticket
from resnet_server.batching.waiter import Answer, LoopWaiter
from resnet_server.engines.api import Images, Outcome
from resnet_server.errors import DeadlineError, ModelUnavailableError, ServingError
from resnet_server.processes.clock import LoopClock


class Elsewhere:
    """A thread that waiters live on, as calls do on the completion queue's."""

    def __init__(self) -> None:
        self.work: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self.thread = threading.Thread(target=self._run)
        self.deferred: list[Callable[[], None]] = []

    def _run(self) -> None:
        while (work := self.work.get()) is not None:
            work()
            if self.work.empty():
                deferred, self.deferred = self.deferred, []
                for each in deferred:
                    each()

    def is_here(self) -> bool:
        return threading.get_ident() == self.thread.ident


class Waiter:
    def __init__(self, home: Elsewhere, value: int) -> None:
        self.home, self.value = home, value
        self.outcomes: list[Answer | ServingError] = []
        self.told_on: list[int] = []
        self.done = threading.Event()

    def settle(self, outcome: Answer | ServingError) -> None:
        self.outcomes.append(outcome)
        self.told_on.append(threading.get_ident())
        self.done.set()

    def post(self, work: Callable[[], None]) -> None:
        if self.home.is_here():
            work()
        else:
            self.home.work.put(work)

    def defer(self, work: Callable[[], None]) -> None:
        assert self.home.is_here()
        self.home.deferred.append(work)

    async def wait(self) -> Answer | ServingError:
        assert await asyncio.to_thread(self.done.wait, 20)
        return self.outcomes[0]


@contextmanager
def elsewhere() -> Iterator[Elsewhere]:
    home = Elsewhere()
    home.thread.start()
    try:
        yield home
    finally:
        home.work.put(None)
        home.thread.join(10)


def enqueue(batcher: Batcher, waiter: Waiter, deadline: float | None = None) -> "queue.Queue[Ticket]":
    ticket: queue.Queue[Ticket] = queue.Queue()
    waiter.home.work.put(lambda: ticket.put(batcher.enqueue(image(waiter.value), deadline, NORMAL, waiter)))
    return ticket


async def until(true: Callable[[], bool]) -> None:
    loop = asyncio.get_running_loop()
    ends = loop.time() + 10
    while not true():
        assert loop.time() < ends, "it did not come true in 10 s"
        await asyncio.sleep(0)


async def test_a_thread_gives_the_engine_its_batch_and_is_told_there() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        with elsewhere() as home:
            one, two = Waiter(home, 1), Waiter(home, 2)
            enqueue(batcher, one)
            await until(lambda: engine.batches == [[1]])
            enqueue(batcher, two)
            here = await ask(batcher, 3)
            await until(lambda: batcher.queued_rows == 2)
            await engine.release()
            assert isinstance(answer := await one.wait(), Answer) and values_of(answer) == [1]
            await engine.release()  # one batch for the thread's request and the event loop's
            assert isinstance(answer := await two.wait(), Answer) and values_of(answer) == [2]
            assert values_of(await here) == [3]
            assert sorted(engine.batches[1]) == [2, 3]
            assert one.told_on == [home.thread.ident]


async def test_what_another_thread_posts_to_the_event_loop_is_done_there() -> None:
    waiter = LoopWaiter()
    threads: list[int] = []
    posted = asyncio.Event()

    def note() -> None:
        threads.append(threading.get_ident())
        posted.set()

    await asyncio.to_thread(waiter.post, note)
    await asyncio.wait_for(posted.wait(), 10)
    waiter.post(note)
    assert threads == [threading.get_ident()] * 2


async def test_who_has_left_is_not_told_and_not_computed_and_carries_nobody_elses_answer() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        with elsewhere() as home:
            first, gone, stays = (Waiter(home, value) for value in (1, 2, 3))
            running = enqueue(batcher, first)
            await until(lambda: engine.batches == [[1]])
            waiting = enqueue(batcher, gone)
            enqueue(batcher, stays)
            await until(lambda: batcher.queued_rows == 2)
            assert batcher.leave(waiting.get()) and batcher.leave(ticket := running.get())
            assert not batcher.leave(ticket)
            assert batcher.queued_rows == 1
            await engine.release()
            await until(lambda: engine.batches == [[1], [3]])
            await engine.release()
            assert isinstance(answer := await stays.wait(), Answer) and values_of(answer) == [3]
            assert first.outcomes == gone.outcomes == []


async def test_a_deadline_set_on_a_thread_is_kept_on_the_real_clock() -> None:
    engine = HeldEngine()
    limits = Limits(8, 8, 64)
    batcher = Batcher([engine], limits, LoopClock())
    clock = LoopClock()
    with elsewhere() as home:
        patient, late, later = (Waiter(home, value) for value in (1, 2, 3))
        enqueue(batcher, patient)
        await until(lambda: bool(engine.batches))
        begun = clock.time()
        enqueue(batcher, later, begun + 30)
        enqueue(batcher, late, begun + 0.2)  # before the one the alarm is set for
        assert isinstance(await late.wait(), DeadlineError)
        assert clock.time() - begun >= 0.2 - 0.001
        assert batcher.queued_rows == 1 and not later.done.is_set()
        await batcher.close()
        assert isinstance(await later.wait(), ModelUnavailableError)
        assert isinstance(await patient.wait(), ModelUnavailableError)


class Busy:
    """Ends each batch on the event loop right away, with each row's own value."""

    ready = True

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.running = 0
        self.rows = 0
        self._loop = asyncio.get_running_loop()

    def watch(self, changed: Callable[[], None]) -> None:
        pass

    def kill(self) -> None:
        pass

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        self.running += 1
        assert self.running <= self.depth
        values = np.concatenate([part[:, 0, 0, :1] for part in parts]).astype(np.float32)

        def end() -> None:
            self.running -= 1
            self.rows += rows
            done(Outcome(values, 1e-4))

        self._loop.call_soon_threadsafe(end)


@pytest.mark.parametrize("leaving", [False, True])
async def test_threads_and_the_event_loop_at_once_lose_and_confuse_nothing(leaving: bool) -> None:
    engines = [Busy(1), Busy(2)]
    batcher = Batcher(engines, Limits(8, 8, 4096), LoopClock(), None)
    counts = [200] * 3
    with elsewhere() as left, elsewhere() as middle, elsewhere() as right:
        homes = [left, middle, right]
        waiters = [[Waiter(home, (7 * index + offset) % 256) for index in range(200)] for offset, home in enumerate(homes)]
        tickets = [[enqueue(batcher, waiter, LoopClock().time() + 60) for waiter in line] for line in waiters]
        here = [asyncio.create_task(batcher.submit(image(index % 256))) for index in range(200)]
        gone: set[Waiter] = set()
        if leaving:
            for line, line_tickets in zip(waiters, tickets, strict=True):
                for waiter, ticket in itertools.islice(zip(line, line_tickets, strict=True), 0, None, 3):
                    if batcher.leave(await asyncio.to_thread(ticket.get, True, 10)):
                        gone.add(waiter)
        for line, count in zip(waiters, counts, strict=True):
            assert len(line) == count
            for waiter in line:
                if waiter not in gone:
                    assert isinstance(answer := await waiter.wait(), Answer)
                    assert values_of(answer) == [waiter.value]
                    assert len(waiter.outcomes) == 1
        assert [values_of(answer) for answer in await asyncio.gather(*here)] == [[index % 256] for index in range(200)]
        await asyncio.wait_for(batcher.drain(), 10)
        assert all(waiter.outcomes == [] for waiter in gone)
    assert batcher.queued_rows == batcher.running_rows == 0


async def test_requests_in_vain_do_not_pile_up_behind_their_deadlines() -> None:
    held = Deadlines()
    home = Elsewhere()
    for index in range(10_000):
        ticket = Ticket(image(1), 0.0, NORMAL, Waiter(home, 1))
        ticket.deadline = 1000.0 - index
        held.add(ticket)
        if index % 10:
            ticket.over = True
            held.forget()
    assert len(held) <= 2 * 1001 + SLACK
    assert held.earliest == 1000.0 - 9_990
    assert [ticket.deadline for ticket in held.passed(-8_000.0)] == [1000.0 - index for index in range(9_990, 8_999, -10)]


async def test_the_batcher_forgets_deadlines_of_who_was_answered_or_left() -> None:
    engine = HeldEngine()
    async with batching([engine]) as batcher:
        for index in range(500):
            task = await ask(batcher, 1, deadline=1000.0)
            if index % 5:
                await engine.release()
                assert values_of(await task) == [1]
            else:
                task.cancel()
                await settle()
                await engine.release()
        assert len(batcher._deadlines) <= SLACK + 2


async def test_a_late_alarm_after_an_early_one_is_not_forgotten() -> None:
    engine, clock = HeldEngine(), FakeClock()
    async with batching([engine], clock, cost=CostModel(1e-3, 1e-3)) as batcher:
        await ask(batcher, 1)
        early, late = await ask(batcher, 2, deadline=1.0), await ask(batcher, 3, deadline=2.0)
        await clock.advance(1.0)
        assert early.done() and not late.done()
        await clock.advance(1.0)
        await settle()
        for task in (early, late):
            with pytest.raises(DeadlineError):
                await task
