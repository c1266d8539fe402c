"""Answers in zlib's form for callers that take `deflate` and not `gzip`, which starlette has."""

import zlib

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Deflated:
    """ASGI: compresses answers of at least `least` bytes that come in one piece; others stay as they are."""

    def __init__(self, application: ASGIApp, least: int) -> None:
        self._application, self._least = application, least

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        accepted = Headers(scope=scope).get("accept-encoding", "") if scope["type"] == "http" else ""
        if "deflate" in accepted and "gzip" not in accepted:
            send = _Answer(send, self._least).take
        await self._application(scope, receive, send)


class _Answer:
    """Keeps the head of an answer back until its body is there."""

    def __init__(self, send: Send, least: int) -> None:
        self._send, self._least = send, least
        self._head: Message | None = None

    async def take(self, message: Message) -> None:
        """See ASGI's `send`."""
        if message["type"] == "http.response.start":
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                message = self._compressed(head, message)
            await self._send(head)
        await self._send(message)

    def _compressed(self, head: Message, message: Message) -> Message:
        body, headers = message.get("body", b""), MutableHeaders(raw=head["headers"])
        if len(body) < self._least or "content-encoding" in headers:
            return message
        data = zlib.compress(body)
        headers["content-encoding"], headers["content-length"] = "deflate", str(len(data))
        headers.add_vary_header("accept-encoding")
        return {**message, "body": data}
