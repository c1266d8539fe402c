"""Which gRPC server answers calls: ours on the completion queue of gRPC's core where that is as we know it, `grpc.aio` elsewhere."""

import logging
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from typing import Any

import grpc

from resnet_server.transport.api import Guard, Transport
from resnet_server.transport.asyncio_call import Guarded, UnreadableRequests, add_direct_method
from resnet_server.transport.grpc_core import KNOWN_BEFORE, KNOWN_FROM, is_measured

log = logging.getLogger(__name__)

PENDING = 100_000
"""Calls that may wait to be taken in. From a thousand on gRPC would cancel some at random, which no caller repeats; the server's own
queue refuses by rule, and says when to come again."""

TAKE_ALL = (("grpc.server.max_pending_requests", PENDING), ("grpc.server.max_pending_requests_hard_limit", PENDING))

CORE = "grpc._cython.cygrpc"
USED = {
    "": (
        "ReceiveCloseOnServerOperation",
        "ReceiveMessageOperation",
        "SendInitialMetadataOperation",
        "SendMessageOperation",
        "SendStatusFromServerOperation",
        "auth_context",
        "peer_identities",
        "peer_identity_key",
    ),
    "Call": ("start_server_batch", "peer"),
    "CompletionQueue": ("poll", "shutdown"),
    "CompletionType": ("queue_shutdown", "queue_timeout"),
    "Server": ("add_http2_port", "cancel_all_calls", "destroy", "register_completion_queue", "request_call", "shutdown", "start"),
}
"""Every name of gRPC's core that `transport.server` and `transport.call` use, by class."""


def core_obstacle(any_version: bool = False) -> str:
    """Say what keeps the completion queue from being used, or nothing; with `any_version` only what it lacks."""
    if not any_version and not is_measured():
        known = f"{'.'.join(map(str, KNOWN_FROM))} to below {'.'.join(map(str, KNOWN_BEFORE))}"
        return f"grpcio {version('grpcio')} is none whose core was tested ({known})"
    try:
        core = import_module(CORE)
    except ImportError as error:
        return f"grpcio's core cannot be imported: {error}"
    missing = [f"{owner}.{name}".strip(".") for owner, names in USED.items() for name in names if not _has(core, owner, name)]
    return f"grpcio's core has no {', '.join(missing)}" if missing else ""


def _has(core: Any, owner: str, name: str) -> bool:
    return hasattr(getattr(core, owner, None) if owner else core, name)


def new_server(kind: str, options: Sequence[tuple[str, Any]], guard: Guard = lambda _: None) -> Transport:
    """A server, not started, with `guard` before its methods. The log says which.

    `auto`: the queue where version and self-check allow it; `queue`: on any version.
    """
    obstacle = core_obstacle(any_version=kind == "queue") if kind != "asyncio" else ""
    if kind == "asyncio" or obstacle:
        reason = obstacle or "asked for"
        server = grpc.aio.server(interceptors=(Guarded(guard), UnreadableRequests()), options=[*TAKE_ALL, *options])
        log.log(logging.WARNING if obstacle else logging.INFO, "transport: grpc.aio, because %s", reason)
        return Transport(server, "asyncio", reason, partial(add_direct_method, server))
    from resnet_server.transport.server import QueueServer  # only here: nothing else may depend on gRPC's core

    reason = "asked for" if kind == "queue" else "the self-check passed"
    log.info("transport: completion queue of grpcio %s (%s)", version("grpcio"), reason)
    queue_server = QueueServer((*TAKE_ALL, *options), guard)
    return Transport(queue_server, "queue", reason, queue_server.add_direct_method)
