"""What can go wrong with a request or a start, by meaning; `endpoints.error_status` maps it to gRPC."""

from collections.abc import Iterable
from itertools import islice

LONGEST_SHOWN, MOST_SHOWN = 100, 8


class ServingError(Exception):
    """Base of all errors that a caller or an operator is told of."""


class InvalidRequestError(ServingError):
    """The request itself is wrong; the text names the field, the value and what was expected."""


class ModelNotFoundError(ServingError):
    """No model or version of that name."""


class ModelUnavailableError(ServingError):
    """The model is there but refused, loading or draining."""


class ModelRefusedError(ServingError):
    """A version cannot be taken into service; the text names it and the reason, and says what stays in service."""


class NotEnabledError(ServingError):
    """The server was started without what is asked for; the text names the option."""


class OverloadError(ServingError):
    """There is more work than time for it; trying again in `retry_after` seconds, or elsewhere, may succeed."""

    def __init__(self, text: str, retry_after: float) -> None:
        super().__init__(text)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[type["OverloadError"], tuple[str, float]]:
        """It crosses borders between processes of ours."""
        return type(self), (str(self), self.retry_after)


class QueueFullError(OverloadError):
    """The queue has no room for the rows."""


class LateError(OverloadError):
    """By the cost model the answer would come after the deadline, because of what is queued."""


class QuotaError(OverloadError):
    """The caller's token has had what it may have for now."""


class UnauthenticatedError(ServingError):
    """Nobody knows who calls: no token, or an unknown one."""


class ForbiddenError(ServingError):
    """The caller is known, and may not do this."""


class DeadlineError(ServingError):
    """The deadline passed before the rows were computed."""


class UnreachableDeadlineError(DeadlineError):
    """Even an idle engine would not answer before the deadline."""


class EngineError(ServingError):
    """The engine failed or answered something else than it was asked for."""


class EngineDiedError(ServingError):
    """The engine's process ended while it computed; trying again may succeed."""


class StartError(ServingError):
    """The server cannot start with these settings on this machine."""


def shown(value: str) -> str:
    """What a caller sent, as an error may repeat it: a status travels in 8 KiB, and a caller may send megabytes."""
    return value if len(value) <= LONGEST_SHOWN else f"{value[:LONGEST_SHOWN]}... ({len(value)} characters)"


def shown_list(values: Iterable[object], count: int) -> str:
    """The first of `count` values, separated by commas."""
    first = ", ".join(shown(str(value)) for value in islice(values, MOST_SHOWN))
    return first if count <= MOST_SHOWN else f"{first}, ... ({count} in all)"
