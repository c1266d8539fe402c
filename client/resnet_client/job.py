"""The calls of one blocking method: sent again where that helps, a window of them in flight, ended together."""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from tenacity import Retrying, sleep_using_event

from resnet_client.connection import Connection
from resnet_client.errors import ClientError, from_rpc
from resnet_client.jobs import Exchange
from resnet_client.retries import Attempts

P = TypeVar("P")
T = TypeVar("T")


class Job:
    """Use it as a context manager: leaving it cancels what is still in flight. `methods` maps a request's type to its stub."""

    def __init__(self, connection: Connection, methods: Mapping[type, Any], timeout: float, window: int) -> None:
        self._connection = connection
        self._methods = methods
        self._timeout = timeout
        self._window = window
        self._stopped = threading.Event()
        self._calls: set[Any] = set()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopped.set()
        with self._lock:
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def run(self, exchange: Exchange[T]) -> T:
        """Send each request that the exchange yields, and give it the response or the error."""
        try:
            request = next(exchange)
            while True:
                try:
                    response = self.send(request)
                except ClientError as error:
                    request = exchange.throw(error)
                else:
                    request = exchange.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    def send(self, request: Any) -> Any:
        """The response; raises ClientError once trying again does not help or is too late."""
        attempts = Attempts(time.monotonic() + self._timeout)
        return Retrying(**attempts.policy(), sleep=sleep_using_event(self._stopped))(self._attempt, request, attempts)

    def _attempt(self, request: Any, attempts: Attempts) -> Any:
        method = self._methods[type(request)]
        call = method.future(request, timeout=attempts.left(), metadata=self._connection.metadata())
        with self._lock:
            self._calls.add(call)
        if self._stopped.is_set():
            call.cancel()
        try:
            return call.result()
        except grpc.FutureCancelledError:
            raise ClientError("the job ended", grpc.StatusCode.CANCELLED) from None
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.url) from None
        finally:
            with self._lock:
                self._calls.discard(call)

    def in_window(self, parts: Iterator[P], work: Callable[[P], T], *, at_once: bool) -> Generator[T, None, None]:
        """Yield each part's result in order, working on a window of them at a time; a single part runs in the caller's thread.

        A failure is raised in its place, or with `at_once` as soon as it is there.
        """
        head = list(itertools.islice(parts, 2))
        if len(head) < 2:
            yield from map(work, head)
            return
        with ThreadPoolExecutor(self._window, "resnet-client") as executor, self:
            yield from _in_order(executor, itertools.chain(head, parts), work, self._window, at_once=at_once)


def _in_order(executor: ThreadPoolExecutor, parts: Iterator[P], work: Callable[[P], T], window: int, *, at_once: bool) -> Iterator[T]:
    running: deque[Future[T]] = deque(executor.submit(work, part) for part in itertools.islice(parts, window))
    try:
        while running:
            wait([future for future in running if not future.done()] if at_once else [running[0]], return_when=FIRST_COMPLETED)
            if at_once:
                _raise_first(running)
            while running and running[0].done():
                yield running.popleft().result()
                running.extend(executor.submit(work, part) for part in itertools.islice(parts, 1))
    finally:
        for future in running:
            future.cancel()


def _raise_first(running: "deque[Future[T]]") -> None:
    for future in running:
        if future.done():
            future.result()
