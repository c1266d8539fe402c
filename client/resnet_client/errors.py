"""What can go wrong, by kind."""

from collections.abc import Iterable
from typing import Any, Self

import grpc
from resnet_proto.trailers import COMPUTED, NOTHING, RETRY_AFTER

NOTHING_SENT = ("failed to connect", "errors resolving", "DNS resolution failed", "connections to all backends failing")
"""gRPC's texts for a call that never left this machine."""


class ClientError(Exception):
    """A call that failed, or an input that the client itself refused (InvalidInputError). Can be pickled.

    `status` is gRPC's; `retry_after` the server's hint in seconds, None without one; `index` and `source` say which of the caller's
    images it is about: its place in what was given, and its path where it has one.
    """

    kind: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(self, text: str, status: grpc.StatusCode | None = None, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.status = status or self.kind
        self.retry_after = retry_after
        self.index: int | None = None
        self.source: str | None = None

    def about(self, index: int, source: str | None, text: str = "") -> Self:
        """A copy that names the caller's image; `text` in place of its own, without a server's index within one call."""
        copy = type(self)(text or self.args[0], self.status, self.retry_after)
        copy.__dict__ |= self.__dict__ | {"index": index, "source": source}
        return copy

    def __str__(self) -> str:
        subject = "" if self.index is None else f"images[{self.index}]" + (f" ({self.source})" if self.source else "") + ": "
        return f"{self.status.name}: {subject}{self.args[0]}"


class InvalidInputError(ClientError):
    """The input or an option is wrong; the same call fails again."""

    kind = grpc.StatusCode.INVALID_ARGUMENT


class ModelNotFoundError(ClientError):
    """No model, version or precision of that name."""

    kind = grpc.StatusCode.NOT_FOUND


class OverloadedError(ClientError):
    """The server has more work than time. With `retry_after` it may succeed then; without, the message is larger than the server takes."""

    kind = grpc.StatusCode.RESOURCE_EXHAUSTED


class DeadlineError(ClientError):
    """No answer within `timeout`, or the server knew that there would be none."""

    kind = grpc.StatusCode.DEADLINE_EXCEEDED


class AccessError(ClientError):
    """The server wants a token or certificate, or another one (UNAUTHENTICATED, PERMISSION_DENIED)."""

    kind = grpc.StatusCode.UNAUTHENTICATED


class UnavailableError(ClientError):
    """No server, or one that starts, stops or lost its engine. `maybe_computed` is False where surely nothing of the call was computed."""

    kind = grpc.StatusCode.UNAVAILABLE
    maybe_computed = True


class UnsupportedError(ClientError):
    """The server does not have this method; it may be another kind of server."""

    kind = grpc.StatusCode.UNIMPLEMENTED


KINDS: dict[grpc.StatusCode, type[ClientError]] = {
    **{kind.kind: kind for kind in ClientError.__subclasses__()},
    grpc.StatusCode.PERMISSION_DENIED: AccessError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidInputError,
}


def from_rpc(error: grpc.RpcError, url: str) -> ClientError:
    """Translate a failed call; where no server took it in, say which was asked instead of what gRPC tried."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return ClientError(str(error) or type(error).__name__)
    code, details = error.code(), error.details() or ""
    pairs: Iterable[Any] = error.trailing_metadata() or ()  # the stubs know neither form as pairs
    trailers = {str(key): str(value) for key, value in pairs}
    hint = trailers.get(RETRY_AFTER, "")
    failed = KINDS.get(code, ClientError)(details, code, int(hint) / 1e3 if hint.isdecimal() else None)
    if isinstance(failed, UnavailableError):
        unsent = details.startswith(NOTHING_SENT)
        failed.maybe_computed = not unsent and trailers.get(COMPUTED) != NOTHING
        if unsent:
            failed.args = (f"no server answers at {url} ({_reason(details)})",)
    return failed


def _reason(details: str) -> str:
    """The last clause of gRPC's chain of reasons: "Connection refused"."""
    return details.rstrip(" ]").rpartition(": ")[2] or details
