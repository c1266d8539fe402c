"""What endpoints ask of a gRPC server, whichever runs: methods that answer their calls by themselves. Imports nothing of gRPC's core."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

Metadata = tuple[tuple[str, str | bytes], ...]

Refused = tuple[grpc.StatusCode, str, Metadata]
"""How a call ends that is turned away: status, text and trailing metadata."""

Entry = Callable[[Any], Refused | None]
"""Judges a call by its metadata, before its message is read; None lets it in. Must not raise or block."""

Guard = Callable[[str], Entry | None]
"""Asked once for the path of each method: what its calls have to pass, or None."""


class DirectCall(Protocol):
    """One unary call, answered by `answer` or `refuse`, once, on any thread; what comes later is dropped.

    It lives on one thread, where its method is called: the completion queue's, or the event loop's. `arrived` is when the call
    reached the process, a time of `time.monotonic`. `on_left` is called where the call lives if the caller leaves before the answer.
    """

    arrived: float
    on_left: Callable[[], None] | None

    def answer(self, message: bytes) -> None:
        """Send it with the status OK."""

    def refuse(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> None:
        """Send a status that is not OK."""

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""

    def post(self, work: Callable[[], None]) -> None:
        """Do `work` where the call lives: now, if this is there, and soon otherwise."""

    def defer(self, work: Callable[[], None]) -> None:
        """Do `work` once the calls that came together with this one are taken in; called where the call lives."""

    def invocation_metadata(self) -> Any:
        """What the caller sent beside the message, as pairs."""

    def peer(self) -> str:
        """The caller's address, as gRPC writes it."""


DirectMethod = Callable[[bytes, DirectCall], None]


@dataclass(frozen=True)
class Transport:
    """The server that runs: `queue` or `asyncio`, and why.

    `add_direct_method(path, method)`, before the start: answer calls of `path`, such as `/package.Service/Method`, by `method`,
    which must not block.
    """

    server: grpc.aio.Server
    name: str
    reason: str
    add_direct_method: Callable[[str, DirectMethod], None]
