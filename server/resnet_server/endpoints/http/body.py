"""The bytes of a request: bounded as they come, and as they are decompressed."""

import zlib
from collections.abc import Callable

from starlette.requests import Request

from resnet_server.endpoints.http.calls import HttpError

STEP = 1 << 16
WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


async def read_body(request: Request, limit: int, hold: Callable[[int], None]) -> bytes:
    """The whole body, decompressed where `Content-Encoding` says so; `hold` is told of bytes as they come, and may raise.

    Raises HttpError 413 as soon as there are more than `limit` bytes, in either form, and 400 for a broken stream or another encoding.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large(limit)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in (*WINDOW, "identity", ""):
        raise HttpError(400, f"Content-Encoding: '{encoding[:100]}'; expected gzip or deflate")
    stream = Inflater(encoding, limit) if encoding in WINDOW else None
    parts, size = [], 0
    async for chunk in request.stream():
        data = stream.feed(chunk) if stream is not None else chunk
        hold(len(data))
        size += len(data)
        if size > limit:
            raise too_large(limit)
        parts.append(data)
    if stream is not None:
        stream.finish()
    return b"".join(parts)


def too_large(limit: int) -> HttpError:
    """For a body beyond the limit."""
    return HttpError(413, f"body: more than {limit} bytes; expected at most that many, decompressed")


class Inflater:
    """Decompresses piece by piece, and never makes more than `limit` bytes."""

    def __init__(self, encoding: str, limit: int) -> None:
        self._encoding = encoding
        self._limit = limit
        self._made = 0
        self._stream = zlib.decompressobj(WINDOW[encoding])
        self._raw_allowed = encoding == "deflate"

    def feed(self, data: bytes) -> bytes:
        """Raises HttpError for a bomb or a broken stream."""
        parts = []
        try:
            while data:
                part = self._inflate(data)
                self._made += len(part)
                if self._made > self._limit:
                    raise too_large(self._limit)
                parts.append(part)
                data = self._stream.unconsumed_tail
        except zlib.error as error:
            raise HttpError(400, f"body: is no {self._encoding} stream ({error})") from None
        return b"".join(parts)

    def _inflate(self, data: bytes) -> bytes:
        """Some clients send `deflate` without zlib's header: looked for once, at the beginning."""
        try:
            return self._stream.decompress(data, STEP)
        except zlib.error:
            if not self._raw_allowed or self._made:
                raise
            self._raw_allowed, self._stream = False, zlib.decompressobj(-zlib.MAX_WBITS)
            return self._stream.decompress(data, STEP)

    def finish(self) -> None:
        """Raises HttpError where the stream was cut off."""
        if not self._stream.eof:
            raise HttpError(400, f"body: the {self._encoding} stream is cut off")
