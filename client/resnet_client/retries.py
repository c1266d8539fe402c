"""When a failed call is sent again; tenacity runs the loop."""

import random
import time
from typing import Any

from tenacity import RetryCallState, wait_random_exponential

from resnet_client.errors import ClientError, OverloadedError, UnavailableError

ATTEMPTS = 4
"""Of a call that no server took in."""
ATTEMPTS_IF_COMPUTED = 2
"""Of a call that an engine may have died of: repeated without end, it would take one engine after the other with it."""
SPREAD = 0.25
"""Callers that were refused together wait up to this share longer than the server said, so that they do not return together."""
LEAST_PAUSE = 0.02
"""Seconds before an overloaded server is asked again, even if its hint is shorter."""
MOST_GROWTH = 8
"""Each refusal doubles the pause, up to this multiple of the hint: the hint does not count the callers that arrive in the meantime."""

BACKOFF = wait_random_exponential(multiplier=0.1, max=1.0, min=0.02)


class Attempts:
    """The attempts of one call, which all end by `deadline`, a time of `time.monotonic`."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._lost = 0

    def policy(self) -> dict[str, Any]:
        """Arguments of `tenacity.Retrying` and `tenacity.AsyncRetrying`."""
        return {"retry": self.again, "wait": self.pause, "stop": self.too_late, "reraise": True}

    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self.deadline - time.monotonic())

    def again(self, state: RetryCallState) -> bool:
        """True if the failure may be another's fault and passing."""
        error = _error(state)
        if isinstance(error, OverloadedError):
            return error.retry_after is not None
        if isinstance(error, UnavailableError):
            self._lost += 1
            return self._lost < (ATTEMPTS_IF_COMPUTED if error.maybe_computed else ATTEMPTS)
        return False

    def pause(self, state: RetryCallState) -> float:
        """Seconds to wait: from the server's hint where there is one, else random; both double with each attempt.

        A pause that has grown takes at most half of the time left, so that a late attempt remains. It is never shorter than the hint.
        """
        error = _error(state)
        if error is None or error.retry_after is None:
            return float(BACKOFF(state))
        hint = max(LEAST_PAUSE, error.retry_after) * random.uniform(1, 1 + SPREAD)  # noqa: S311  # not a secret
        grown = hint * min(MOST_GROWTH, 2.0 ** (state.attempt_number - 1))
        return max(hint, min(grown, self.left() / 2))

    def too_late(self, state: RetryCallState) -> bool:
        """True if the next attempt would begin after the deadline: the failure itself says more than DEADLINE_EXCEEDED."""
        return time.monotonic() + state.upcoming_sleep >= self.deadline


def _error(state: RetryCallState) -> ClientError | None:
    error = state.outcome.exception() if state.outcome is not None else None
    return error if isinstance(error, ClientError) else None
