"""One call from its arrival to its status: `grpc.aio.ServicerContext`, as handlers know it.

A call's operations are started in batches; each has a tag, which the completion queue gives back on its thread when the batch is
done (`completed`), and the event loop sees right after (`proceed`), if the tag says so.

Handlers are coroutines on the event loop; a direct one is a function that the queue's thread calls, and that answers by itself.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # compiled; its stubs are empty
from grpc.aio import EOF  # type: ignore[attr-defined]  # missing in the stubs

from resnet_server.transport.api import Metadata, Refused
from resnet_server.transport.asyncio_call import unreadable
from resnet_server.transport.method import Method
from resnet_server.transport.tags import Awaited, Home, Posted, Tag

log = logging.getLogger(__name__)

NO_FLAGS = 0
NEVER = 1e12  # seconds since 1970: gRPC's "no deadline" is a time beyond
NONE_RECEIVED = "this method requires exactly one request message"


class Closed:
    """The end of a call as the caller sees it."""

    __slots__ = ("_call",)

    def __init__(self, call: "Call") -> None:
        self._call = call

    def completed(self, event: Any) -> bool:
        """True if the caller left, or its deadline passed, before it had the status."""
        self._call.ended(closed=True)
        left = bool(event.batch_operations[0].cancelled())
        if left and self._call.is_direct:
            self._call.left()
            return False
        return left

    def proceed(self) -> None:
        """See `Tag.proceed`."""
        self._call.left()

    def failed(self) -> None:
        """See `Tag.failed`: nobody would say that the caller left."""
        self._call.ended(closed=True)
        self._call.left()


class Sent:
    """The answer of a call, handed to the system."""

    __slots__ = ("_call",)

    def __init__(self, call: "Call") -> None:
        self._call = call

    def completed(self, event: Any) -> bool:
        """See `Tag.completed`."""
        self._call.ended(sent=True)
        return False

    def proceed(self) -> None:
        """Never asked for."""

    def failed(self) -> None:
        """See `Tag.failed`."""
        self._call.ended(sent=True)


class SentAndClosed:
    """The end of a call whose answer was handed to the system together with the question how it ends."""

    __slots__ = ("_call",)

    def __init__(self, call: "Call") -> None:
        self._call = call

    def completed(self, event: Any) -> bool:
        """See `Tag.completed`."""
        self._call.ended(closed=True, sent=True)
        return False

    def proceed(self) -> None:
        """Never asked for."""

    def failed(self) -> None:
        """See `Tag.failed`."""
        self._call.ended(closed=True, sent=True)


class Requests:
    """What the caller of a streaming method sends, one by one."""

    def __init__(self, call: "Call") -> None:
        self._call = call

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        """The next; raises StopAsyncIteration after the last."""
        request = await self._call.read()
        if request is EOF:
            raise StopAsyncIteration
        return request


class Call(grpc.aio.ServicerContext[Any, Any]):
    """A call of a method. Made on the queue's thread; from `proceed` on it belongs to the event loop, unless its method is direct.

    What a direct handler uses, on any thread: `answer` or `refuse`, once; `time_remaining`; `post` and `defer`; and `on_left`,
    called on the queue's thread if the caller leaves before.
    """

    def __init__(self, event: Any, method: Method, home: Home) -> None:
        self.arrived = time.monotonic()
        self._call = event.call
        self._deadline: float = event.call_details.deadline
        self._metadata = event.invocation_metadata
        self._method = method
        self._home = home
        self._crowd = home.crowd
        self._crowd.come()
        self._sent = self._closed = self._over = False
        self._watched = True  # somebody asks gRPC how it ends; else the batch with the answer does
        self._loop = home.loop
        self.on_left: Callable[[], None] | None = None
        self._message: bytes | None = None
        self._task: asyncio.Task[None] | None = None
        self._headed = self._answered = self._left = False
        self._trailing: Metadata = ()
        self._code = grpc.StatusCode.OK
        self._details = ""
        self._on_done: list[Callable[[Any], None]] = []

    def open(self) -> bool:
        """Ask for what the caller sends, on the queue's thread; True if the handler can begin without it."""
        if self._method.direct:
            self._watched = False
        else:
            self._watch()
        if self._method.streams_in:
            return True
        self._begin((cygrpc.ReceiveMessageOperation(NO_FLAGS),), self)
        return False

    def turn_away(self, refused: Refused) -> None:
        """End it before anything of it is read; instead of `open`."""
        self._watched = False
        self.refuse(*refused)

    def _watch(self) -> None:
        """Hear when the caller leaves, or has the status."""
        self._watched = True
        self._begin((cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS),), Closed(self))

    def completed(self, event: Any) -> bool:
        """Take the one request message."""
        message = event.batch_operations[0].message()
        if self._method.direct:
            self._run_directly(message)
            if not self._watched:
                self._watch()
            return False
        self._message = message
        return True

    @property
    def is_direct(self) -> bool:
        """True if the queue's thread runs it."""
        return self._method.direct

    def _run_directly(self, message: bytes | None) -> None:
        """Until it returns, nobody hears whether the caller leaves: one that is refused at once costs a batch and an event less."""
        if self._left:
            return
        if message is None:
            self.refuse(grpc.StatusCode.UNIMPLEMENTED, NONE_RECEIVED)
            return
        try:
            self._method.behaviour(message, self)
        except Exception as error:  # whatever a handler raises costs its own call only
            self._failed(error)

    def answer(self, message: bytes) -> None:
        """Send it with the status OK; nothing where the caller has left."""
        self._finish(message)

    def refuse(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> None:
        """Send a status that is not OK."""
        self._trailing = trailing_metadata
        self._give_up(code, details)

    def post(self, work: Callable[[], None]) -> None:
        """Do `work` on the queue's thread: now, if this is it, and soon otherwise."""
        if self._home.is_here():
            work()
        else:
            self._begin((), Posted(work))  # no operations: done at once, and its tag is in the queue

    def defer(self, work: Callable[[], None]) -> None:
        """See `Home.defer`."""
        self._home.defer(work)

    def _begin(self, operations: Sequence[Any], tag: Tag) -> None:
        """Start a batch of operations. Where gRPC refuses it, its tag never comes: what waits for it is ended here."""
        error = self._call.start_server_batch(operations, tag)
        if error:
            log.error("gRPC refused operations of a call (error %s); the call is given up", error)
            tag.failed()

    def failed(self) -> None:
        """See `Tag.failed`: its message never comes."""
        self.left()
        if not self._watched:  # nobody else would say that it is over
            self.ended(closed=True)

    def proceed(self) -> None:
        """Run the handler."""
        if not self._left:
            self._task = self._loop.create_task(self._serve())

    def ended(self, closed: bool = False, sent: bool = False) -> None:
        """It is over, or its answer has gone: the second may well come after the first."""
        self._closed |= closed
        self._sent |= sent
        if self._closed and (self._sent or not self._answered) and not self._over:
            self._over = True
            self._crowd.leave()

    def left(self) -> None:
        """Nobody waits for the answer any more."""
        self._left = True
        on_left, self.on_left = self.on_left, None
        if on_left is not None:
            on_left()
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        method = self._method
        try:
            if method.streams_in:
                request: Any = Requests(self)
            else:
                request = await self._request()
            if method.streams_out:
                await self._stream(method.behaviour(request, self))
                self._finish(None)
            else:
                answer = await method.behaviour(request, self)
                self._finish(answer if method.writes is None else method.writes(answer))
        except grpc.aio.AbortError:
            pass
        except asyncio.CancelledError:
            self._give_up(grpc.StatusCode.CANCELLED, "the server gave the call up")
        except Exception as error:  # as above
            self._failed(error)
        finally:
            self._task = None  # it refers to this call
            for callback in self._on_done:
                callback(self)

    async def _request(self) -> Any:
        message, self._message = self._message, None
        if message is None:
            await self.abort(grpc.StatusCode.UNIMPLEMENTED, NONE_RECEIVED)
        return await self._understood(message)

    async def _understood(self, message: bytes) -> Any:
        if self._method.reads is None:
            return message
        try:
            return self._method.reads(message)
        except Exception as error:
            await self.abort(grpc.StatusCode.INVALID_ARGUMENT, unreadable(message, error))

    async def _stream(self, answers: AsyncIterator[Any] | Awaitable[None]) -> None:
        if isinstance(answers, AsyncIterator):
            async for answer in answers:
                await self.write(answer)
        else:
            await answers

    def _finish(self, message: bytes | None) -> None:
        """Send the answer, where there is one, and the status."""
        if self._answered or self._left:
            return
        self._answered = True
        self.on_left = None  # it would keep this call alive in a cycle
        operations = [] if self._headed else [cygrpc.SendInitialMetadataOperation((), NO_FLAGS)]
        if message is not None:
            operations.append(cygrpc.SendMessageOperation(message, NO_FLAGS))
        code, details = self._code.value[0], self._details.encode()
        operations.append(cygrpc.SendStatusFromServerOperation(self._trailing, code, details, NO_FLAGS))
        if self._watched or not self._home.is_here():  # on another thread, `_watch` may be called right now
            self._begin(operations, Sent(self))
        else:
            self._watched = True
            self._begin((*operations, cygrpc.ReceiveCloseOnServerOperation(NO_FLAGS)), SentAndClosed(self))

    def _failed(self, error: Exception) -> None:
        log.error("a handler failed", exc_info=error)
        self._give_up(grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}; the server's log has more")

    def _give_up(self, code: grpc.StatusCode, details: str) -> None:
        self._code, self._details = code, details
        self._finish(None)

    async def _run(self, *operations: Any) -> Any:
        """The first of the operations, done; None where the caller has left."""
        awaited = Awaited(self._loop)
        self._begin(operations, awaited)
        return await awaited.future

    async def read(self) -> Any:
        """The next request of a stream; EOF after the last."""
        operation = await self._run(cygrpc.ReceiveMessageOperation(NO_FLAGS))
        message = operation.message() if operation is not None else None
        if message is None:
            return EOF
        return await self._understood(message)

    async def write(self, message: Any) -> None:
        """Send one answer of a stream; returns when gRPC can take the next."""
        if self._answered or self._left:
            raise asyncio.InvalidStateError("the call has ended")
        writes = self._method.writes
        sent = cygrpc.SendMessageOperation(message if writes is None else writes(message), NO_FLAGS)
        operations = (sent,) if self._headed else (cygrpc.SendInitialMetadataOperation((), NO_FLAGS), sent)
        self._headed = True
        await self._run(*operations)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """At most once, before the first answer."""
        if self._headed or self._answered:
            raise asyncio.InvalidStateError("initial metadata has been sent")
        self._headed = True
        await self._run(cygrpc.SendInitialMetadataOperation(tuple(initial_metadata), NO_FLAGS))

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """End the call with a status that is not OK; raises AbortError."""
        if code is grpc.StatusCode.OK:
            raise ValueError("code: OK; expected a status that says what went wrong")
        self._trailing = tuple(trailing_metadata) or self._trailing
        self._give_up(code, details)
        raise grpc.aio.AbortError

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """See `abort`."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def time_remaining(self) -> float | None:  # type: ignore[override]  # None where there is no deadline, as grpc.aio has it
        """Seconds until the caller's deadline."""
        return max(0.0, self._deadline - time.time()) if self._deadline < NEVER else None

    def cancelled(self) -> bool:
        """True once the caller has left."""
        return self._left

    def done(self) -> bool:
        """True once the status is sent or the caller has left."""
        return self._answered or self._left

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Sent with the status."""
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """As set."""
        return self._trailing

    def invocation_metadata(self) -> Any:
        """What the caller sent."""
        return self._metadata

    def set_code(self, code: grpc.StatusCode) -> None:
        """Of the status, unless the call is aborted."""
        self._code = code

    def code(self) -> grpc.StatusCode:
        """As set."""
        return self._code

    def set_details(self, details: str) -> None:
        """Of the status, unless the call is aborted."""
        self._details = details

    def details(self) -> str:
        """As set."""
        return self._details

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Called with this context when the handler has ended."""
        self._on_done.append(callback)

    def set_compression(self, compression: grpc.Compression) -> None:
        """Answers are never compressed: logits do not shrink."""

    def disable_next_message_compression(self) -> None:
        """See `set_compression`."""

    def peer(self) -> str:
        """The caller's address, as gRPC writes it."""
        return str(self._call.peer().decode())

    def peer_identities(self) -> Iterable[bytes] | None:
        """The names in the caller's certificate; None without one."""
        found: Iterable[bytes] | None = cygrpc.peer_identities(self._call)
        return found

    def peer_identity_key(self) -> str | None:
        """The property that `peer_identities` are of; None without them."""
        key = cygrpc.peer_identity_key(self._call)
        return None if key is None else str(key.decode())

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What is known of the connection: empty without TLS."""
        found: Mapping[str, Iterable[bytes]] = {key.decode(): values for key, values in (cygrpc.auth_context(self._call) or {}).items()}
        return found
