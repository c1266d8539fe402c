"""ModelStreamInfer: requests one after the other on one call, each answered in its turn by a result or by its error.

https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_generate.md has the flag that ends each answer.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc
from resnet_proto import open_inference_pb2 as pb
from resnet_proto.trailers import COMPUTED, NOTHING, RETRY_AFTER

from resnet_server.endpoints.error_status import Context
from resnet_server.endpoints.infer_message import identity_of
from resnet_server.endpoints.wire import length_delimited
from resnet_server.models.registry import CLOSED, Registry
from resnet_server.transport.api import DirectMethod
from resnet_server.transport.asyncio_call import AsyncioCall, Ended

MOST_STREAMS = 1024
MOST_IN_FLIGHT = 64
"""Of one stream: the next request is read when an answer has left, and until then gRPC's flow control holds the caller back."""
ANSWER = pb.ModelStreamInferResponse.DESCRIPTOR.fields_by_name["infer_response"].number
FINAL = pb.ModelInferResponse(parameters={"triton_final_response": pb.InferParameter(bool_param=True)})
FINAL_BYTES = FINAL.SerializeToString()
"""One request has one answer: clients that may expect more are told so."""


class StreamInferService:
    """Runs ModelInfer's methods for the `first` request of a stream and for each `further` one; what is counted, is counted as there."""

    names = ()

    def __init__(self, registry: Registry, first: DirectMethod, further: DirectMethod) -> None:
        self._registry = registry
        self._infers = (first, further)
        self._streams = 0
        self._closing = asyncio.Event()
        registry.watch(self._look)

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: Context) -> None:
        """Answer in the order of the requests; messages are in serialised form.

        A server that shuts down answers what it has taken in, and ends the stream with UNAVAILABLE.
        """
        if self._streams >= MOST_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"ModelStreamInfer: {self._streams} streams are open; close some first")
        self._streams += 1
        stream = Stream(self._infers, requests, context, self._closing)
        try:
            await stream.run()
        finally:
            self._streams -= 1
            stream.leave()
        if not stream.read_all:
            await context.abort(grpc.StatusCode.UNAVAILABLE, CLOSED["draining"], ((COMPUTED, NOTHING),))

    def _look(self) -> None:
        if self._registry.state == "draining":
            self._closing.set()


class Stream:
    """One caller's requests: at most MOST_IN_FLIGHT are taken in and not yet answered. `read_all`: the caller has said its last."""

    def __init__(
        self, infers: tuple[DirectMethod, DirectMethod], requests: AsyncIterator[bytes], context: Context, closing: asyncio.Event
    ) -> None:
        self._infer, self._further = infers
        self._requests = requests
        self._context = context
        self._closing = closing
        self._calls: deque[tuple[AsyncioCall, str]] = deque()
        self._places = asyncio.Semaphore(MOST_IN_FLIGHT)
        self._more = asyncio.Event()
        self._reading: asyncio.Task[None] | None = None
        self.read_all = False

    async def run(self) -> None:
        """Read and answer until the caller or the server has enough, and everything taken in is answered."""
        self._reading = asyncio.ensure_future(self._read())
        while True:
            await self._more.wait()
            while self._calls:
                call, identity = self._calls[0]
                await self._context.write(encoded(await call.ended, identity))
                self._calls.popleft()
                self._places.release()
            if self._reading.done():
                self._reading.result()
                return
            self._more.clear()

    def leave(self) -> None:
        """Give up what is not answered: nobody waits for it any more."""
        if self._reading is not None:
            self._reading.cancel()
        while self._calls:
            self._calls.popleft()[0].left()

    async def _read(self) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        try:
            while (message := await self._next(closing)) is not None:
                call = AsyncioCall(self._context)
                self._infer(message, call)
                self._infer = self._further
                self._calls.append((call, identity_of(message)))
                self._more.set()
        finally:
            closing.cancel()
            self._reading_ended()

    def _reading_ended(self) -> None:
        asyncio.get_running_loop().call_soon(self._more.set)  # once the task is done

    async def _next(self, closing: "asyncio.Future[Any]") -> bytes | None:
        """The next request, as soon as there is a place for it; None at the end of the stream, or of the server."""
        await self._places.acquire()
        if closing.done():
            return None
        coming = asyncio.ensure_future(anext(self._requests, None))
        try:
            await asyncio.wait((coming, closing), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                return None
        finally:
            coming.cancel()
        message = coming.result()
        self.read_all = message is None
        return message


def encoded(ended: Ended, identity: str) -> bytes:
    """A ModelStreamInferResponse: the answer, or the error's text beside `status`, and `retry_after_ms` where there is a hint."""
    if isinstance(ended, bytes):
        return length_delimited(ANSWER, ended + FINAL_BYTES)
    code, details, trailing = ended
    response = pb.ModelStreamInferResponse(error_message=details or code.name, infer_response=FINAL)
    response.infer_response.id = identity
    response.infer_response.parameters["status"].string_param = code.name
    if (hint := dict(trailing).get(RETRY_AFTER)) is not None:
        response.infer_response.parameters["retry_after_ms"].int64_param = int(hint)
    return response.SerializeToString()
