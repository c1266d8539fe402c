"""Which server answers calls."""

from collections.abc import Sequence
from typing import Any

import grpc

from resnet_server.transport.grpc_core import is_measured
from resnet_server.transport.server import QueueServer

PENDING = 100_000
"""Calls that may wait to be taken in. From a thousand on gRPC would cancel some by lot, which no caller repeats; the server's own
queue refuses by rule, and says when to come again."""

TAKE_ALL = (("grpc.server.max_pending_requests", PENDING), ("grpc.server.max_pending_requests_hard_limit", PENDING))


def new_server(kind: str, options: Sequence[tuple[str, Any]]) -> grpc.aio.Server:
    """A `kind` of server, not started; auto: on the completion queue where grpcio's version is one that was measured and tested."""
    if kind == "queue" or (kind == "auto" and is_measured()):
        return QueueServer((*TAKE_ALL, *options))
    return grpc.aio.server(options=[*TAKE_ALL, *options])
