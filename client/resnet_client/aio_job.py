"""The calls of one asyncio method; mirrors `job`."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc
from tenacity import AsyncRetrying

from resnet_client.connection import Connection
from resnet_client.errors import ClientError, from_rpc
from resnet_client.jobs import Exchange
from resnet_client.retries import Attempts

P = TypeVar("P")
T = TypeVar("T")


class AsyncJob:
    """`methods` maps a request's type to its stub. Cancelling the task that awaits cancels what is in flight."""

    def __init__(self, connection: Connection, methods: Mapping[type, Any], timeout: float, window: int) -> None:
        self._connection = connection
        self._methods = methods
        self._timeout = timeout
        self._window = window

    async def run(self, exchange: Exchange[T]) -> T:
        """Send each request that the exchange yields, and give it the response or the error."""
        try:
            request = next(exchange)
            while True:
                try:
                    response = await self.send(request)
                except ClientError as error:
                    request = exchange.throw(error)
                else:
                    request = exchange.send(response)
        except StopIteration as end:
            result: T = end.value
            return result

    async def send(self, request: Any) -> Any:
        """The response; raises ClientError once trying again does not help or is too late."""
        attempts = Attempts(time.monotonic() + self._timeout)
        return await AsyncRetrying(**attempts.policy())(self._attempt, request, attempts)

    async def _attempt(self, request: Any, attempts: Attempts) -> Any:
        method = self._methods[type(request)]
        try:
            return await method(request, timeout=attempts.left(), metadata=self._connection.metadata())
        except grpc.RpcError as error:
            raise from_rpc(error, self._connection.url) from None

    async def in_window(self, parts: AsyncIterator[P], work: Callable[[P], Awaitable[T]], *, at_once: bool) -> AsyncGenerator[T, None]:
        """Yield each part's result in order, working on a window of them at a time.

        A failure is raised in its place, or with `at_once` as soon as it is there.
        """
        running: deque[asyncio.Task[T]] = deque()
        try:
            more = True
            while more or running:
                while more and len(running) < self._window:
                    more = await _start_next(parts, work, running)
                if not running:
                    return
                await asyncio.wait([task for task in running if not task.done()] or running, return_when=asyncio.FIRST_COMPLETED)
                if at_once:
                    _raise_first(running)
                while running and running[0].done():
                    yield running.popleft().result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


async def _start_next(parts: AsyncIterator[P], work: Callable[[P], Awaitable[T]], running: "deque[asyncio.Task[T]]") -> bool:
    """False if there is no further part."""
    async for part in parts:
        running.append(asyncio.ensure_future(work(part)))
        return True
    return False


def _raise_first(running: "deque[asyncio.Task[T]]") -> None:
    for task in running:
        if task.done():
            task.result()
