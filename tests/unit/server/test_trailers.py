"""What goes beside a refusal, for clients to follow."""

import pytest
from prometheus_client import CollectorRegistry
from resnet_proto.trailers import COMPUTED, MAYBE, NOTHING, RETRY_AFTER
from resnet_server.endpoints.error_status import Border
from resnet_server.errors import (
    DeadlineError,
    EngineDiedError,
    InvalidRequestError,
    LateError,
    ModelUnavailableError,
    QueueFullError,
    ServingError,
)
from resnet_server.metrics.metrics import Metrics


@pytest.mark.parametrize(
    ("error", "trailers"),
    [
        (EngineDiedError("died"), ((COMPUTED, MAYBE),)),
        (ModelUnavailableError("draining"), ((COMPUTED, NOTHING),)),
        (QueueFullError("full", retry_after=0.25), ((RETRY_AFTER, "250"),)),
        (LateError("late", retry_after=0.0001), ((RETRY_AFTER, "1"),)),
        (InvalidRequestError("no"), ()),
        (DeadlineError("passed"), ()),
    ],
)
def test_a_refusal_says_when_or_whether_to_try_again(error: ServingError, trailers: tuple[tuple[str, str], ...]) -> None:
    border = Border(Metrics(CollectorRegistry()), lambda: 0.0)
    assert border.refusal(border.record("ModelInfer", 0.0), error).trailing_metadata == trailers
