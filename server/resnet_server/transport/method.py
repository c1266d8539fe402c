"""A handler, taken apart."""

from collections.abc import Callable
from typing import Any

import grpc

from resnet_server.transport.api import Entry


class Method:
    """A handler, taken apart once; `direct`: one that the queue's thread calls with the message and the call.

    `entry`: what judges each call before its message is read.
    """

    __slots__ = ("behaviour", "direct", "entry", "reads", "streams_in", "streams_out", "writes")

    def __init__(self, handler: "grpc.RpcMethodHandler[Any, Any]", direct: bool = False, entry: Entry | None = None) -> None:
        self.direct = direct
        self.entry = entry
        self.streams_in, self.streams_out = handler.request_streaming, handler.response_streaming
        self.reads, self.writes = handler.request_deserializer, handler.response_serializer
        if self.streams_in:
            behaviour: Any = handler.stream_stream if self.streams_out else handler.stream_unary
        else:
            behaviour = handler.unary_stream if self.streams_out else handler.unary_unary
        self.behaviour: Callable[[Any, Any], Any] = behaviour
