"""Stands before every method: a call that may not come in is answered by its metadata alone, counted, and never read."""

from collections.abc import Callable

from resnet_server.endpoints.error_status import Border
from resnet_server.endpoints.security.access import Access, Metadata
from resnet_server.transport.api import Entry, Refused


class _Headers:
    """All that is known of a caller who was not let in."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Metadata:
        """As sent."""
        return self._metadata

    def peer(self) -> str:
        """The guard does not know the connection."""
        return ""


class Guard:
    """By a method's path what its calls have to pass; None for those that anybody may call, at no cost."""

    def __init__(self, access: Access, border: Border, now: Callable[[], float]) -> None:
        self._access = access
        self._border = border
        self._now = now

    def __call__(self, path: str) -> Entry | None:
        """See `transport.api.Guard`."""
        judge, method = self._access.judge_of(path), path.rpartition("/")[2]
        if judge is None:
            return None

        def enter(metadata: Metadata) -> Refused | None:
            try:
                judge(metadata)
            except Exception as error:  # the border knows what each is worth to the caller
                return self._border.refusal(self._border.record(method, self._now(), _Headers(metadata)), error)
            return None

        return enter
