"""`grpc.aio.Server` on a completion queue that one thread polls.

`grpc.aio` makes several tasks and futures of each call, and crosses from thread to thread for each of its events. Here the queue's
thread takes in a call and its message by itself, and the event loop is told once, of as many calls as have come in the meantime. A direct
method is answered without the event loop, on the queue's thread alone.
The classes of `cygrpc` are what `grpc.server` itself is written with; docs/decisions/0006-transport.md has the measurements.
"""

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled; its stubs are empty

from resnet_server.transport.api import Entry, Guard, Refused
from resnet_server.transport.call import Call
from resnet_server.transport.crowd import Crowd
from resnet_server.transport.hang_up import Place, hang_up, place_of
from resnet_server.transport.method import Method
from resnet_server.transport.tags import Awaited, Tag

log = logging.getLogger(__name__)

Handler = grpc.RpcMethodHandler
ARRIVAL = object()
MOST_METHODS = 1024
MOST_TOLD = 4096
AT_HAND = 1.0  # seconds since 1970, long ago: the queue is asked for what it has, without waiting
MOST_BEFORE_DEFERRED = 64  # events
CLOSING: Refused = (grpc.StatusCode.UNAVAILABLE, "the server is shutting down", ())


class CallDetails(grpc.HandlerCallDetails):
    """What generic handlers choose a method by."""

    def __init__(self, method: str, invocation_metadata: Any) -> None:
        self.method = method
        self.invocation_metadata = invocation_metadata


class AllGone(Awaited):
    """The server's shutdown, which is complete when no call is left."""

    __slots__ = ()

    def completed(self, event: Any) -> bool:
        """See `Tag.completed`."""
        return True


def unknown(name: bytes) -> Method:
    """What answers a call of a method that is not here, without reading it."""

    async def refuse(_: Any, context: Any) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{name.decode(errors='replace')} is unknown here")

    return Method(grpc.stream_unary_rpc_method_handler(refuse))


def unguarded(path: str) -> Entry | None:
    """Anybody may call."""
    return None


class QueueServer(grpc.aio.Server):
    """To be made, started and stopped on one event loop. `options` are channel arguments.

    With `most_told` messages that the event loop has not come to, no more calls are taken in until it has: the rest waits in gRPC's
    core, whose flow control holds the callers back.
    """

    most_told = MOST_TOLD

    def __init__(self, options: Sequence[tuple[str, Any]] = (), guard: Guard = unguarded) -> None:
        self._guard = guard
        self._queue = cygrpc.CompletionQueue()
        self._server = cygrpc.Server(tuple(options), False)  # no xDS
        self._server.register_completion_queue(self._queue)
        self._generic: list[grpc.GenericRpcHandler[Any, Any]] = []
        self._methods: dict[bytes, Method] = {}
        self._poller = threading.Thread(target=self._poll, name="completion-queue", daemon=True)
        self.loop = asyncio.get_running_loop()
        self._deferred: list[Callable[[], None]] = []
        self._inbox: deque[Tag] = deque()
        self._told = self._holds_back = False
        self.crowd = Crowd(self.loop)
        self._stopping = False
        self._places: list[Place] = []
        self._stopped = asyncio.Event()

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable["grpc.GenericRpcHandler[Any, Any]"]) -> None:
        """Before the start."""
        self._generic.extend(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, "Handler[Any, Any]"]) -> None:
        """Before the start."""
        for name, handler in method_handlers.items():
            path = f"/{service_name}/{name}"
            self._methods[path.encode()] = Method(handler, entry=self._guard(path))

    def add_direct_method(self, name: str, behaviour: Callable[[bytes, Call], None]) -> None:
        """Before the start. `behaviour` is called on the queue's thread, which it must not keep waiting, and answers through the call."""
        self._methods[name.encode()] = Method(grpc.unary_unary_rpc_method_handler(behaviour), direct=True, entry=self._guard(name))

    def add_insecure_port(self, address: str) -> int:
        """Bind; 0 as port takes a free one. Returns the port; raises RuntimeError where it cannot be bound."""
        port: int = self._server.add_http2_port(address.encode())
        if not port:
            raise RuntimeError(f"{address} cannot be bound")
        self._places.append(place_of(address, port))
        return port

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Bind with TLS; see `add_insecure_port`."""
        port: int = self._server.add_http2_port(address.encode(), server_credentials._credentials)  # type: ignore[attr-defined]  # as grpc.server does
        if not port:
            raise RuntimeError(f"{address} cannot be bound")
        self._places.append(place_of(address, port))
        return port

    async def start(self) -> None:
        """Take calls."""
        self._server.start()
        self._take_next()
        self._poller.start()

    async def stop(self, grace: float | None = None) -> None:
        """Turn new calls away; those that still run after `grace` seconds are cancelled.

        gRPC's own shutdown ends calls CANCELLED that arrive before their caller has heard of it, and no caller repeats those
        (https://github.com/grpc/grpc/issues/41785). So new ones are answered UNAVAILABLE until nothing runs; then the connections are
        ended, which callers see as UNAVAILABLE, too; and only then gRPC shuts down.
        """
        if self._stopping:
            await self._stopped.wait()
            return
        self._stopping = True
        running, self.crowd = self.crowd, Crowd(self.loop)
        if grace:
            await running.gone(grace)
        hang_up(self._places)
        all_gone = AllGone(self.loop)
        self._server.shutdown(self._queue, all_gone)
        self._server.cancel_all_calls()
        await all_gone.future
        self._server.destroy()
        self._queue.shutdown()
        await asyncio.to_thread(self._poller.join)
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # as grpc.aio has it
        """Return once it is stopped, or after `timeout` seconds: True if it was the time that ran out."""
        try:
            await asyncio.wait_for(self._stopped.wait(), timeout)
        except TimeoutError:
            return True
        return False

    def is_here(self) -> bool:
        """See `Home.is_here`."""
        return threading.get_ident() == self._poller.ident

    def defer(self, work: Callable[[], None]) -> None:
        """See `Home.defer`."""
        self._deferred.append(work)

    def _poll(self) -> None:
        taken = 0  # since something was deferred
        while True:
            event = self._queue.poll(AT_HAND if self._deferred else None)
            if event.completion_type == cygrpc.CompletionType.queue_shutdown:
                return
            if event.completion_type != cygrpc.CompletionType.queue_timeout:
                try:
                    self._take(event, event.tag)
                except Exception:  # as below
                    log.exception("an event of gRPC's was not understood; a call may hang until its deadline")
                taken += 1
            if self._deferred and (event.completion_type == cygrpc.CompletionType.queue_timeout or taken >= MOST_BEFORE_DEFERRED):
                taken = 0
                self._do_deferred()
            event = None  # it holds the call, which must be gone for the server to end

    def _do_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for work in deferred:
            try:
                work()
            except Exception:  # this thread serves every call: nothing may end it
                log.exception("deferred work failed")

    def _take(self, event: Any, tag: Any) -> None:
        if tag is ARRIVAL:
            self._arrived(event)
        elif tag is not None and tag.completed(event):
            self._tell(tag)

    def _arrived(self, event: Any) -> None:
        if not event.success:  # the server is shutting down
            return
        self._holds_back = len(self._inbox) >= self.most_told
        if self._holds_back:  # the event loop may have emptied it in this moment, and a direct call would not tell it again
            self.loop.call_soon_threadsafe(self._proceed)
        else:
            self._take_next()
        name = event.call_details.method
        method = self._methods.get(name) or self._find(name, event.invocation_metadata)
        call = Call(event, method, self)
        refused = CLOSING if self._stopping else None if method.entry is None else method.entry(event.invocation_metadata)
        if refused is not None:
            call.turn_away(refused)
        elif call.open():
            self._tell(call)

    def _take_next(self) -> None:
        with contextlib.suppress(ValueError):  # while it shuts down
            self._server.request_call(self._queue, self._queue, ARRIVAL)

    def _find(self, name: bytes, metadata: Any) -> Method:
        details = CallDetails(name.decode(errors="replace"), metadata)
        handler = next(filter(None, (generic.service(details) for generic in self._generic)), None)
        if handler is None:
            return unknown(name)
        method = Method(handler, entry=self._guard(details.method))
        if len(self._methods) < MOST_METHODS:
            self._methods[name] = method
        return method

    def _tell(self, tag: Tag) -> None:
        """Have the event loop go on with it, once for as many as come until it does."""
        self._inbox.append(tag)
        if not self._told:
            self._told = True
            self.loop.call_soon_threadsafe(self._proceed)

    def _proceed(self) -> None:
        self._told = False  # first: what comes from here on tells again
        while self._inbox:
            self._inbox.popleft().proceed()
        if self._holds_back:
            self._holds_back = False
            self._take_next()
