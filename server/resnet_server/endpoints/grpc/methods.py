"""The methods of a service, registered with bounds on what they read."""

from collections.abc import Callable, Collection
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

MOST_BYTES = 1 << 16
"""Of a request that holds no images: names and a few numbers. Parsed at once, on the event loop that serves all."""


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, servicer: object, serialised: Collection[str] = ()) -> None:
    """Register the methods that `servicer` has; those named in `serialised` get and give the bytes of their messages.

    What is too long or cannot be read, the transport answers INVALID_ARGUMENT.
    """
    handlers = {}
    for method in service.methods:
        behaviour: Any = getattr(servicer, method.name, None)
        if behaviour is None:
            continue
        if method.name in serialised:
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(behaviour)
            continue
        reads = bounded(GetMessageClass(method.input_type).FromString)
        writes = GetMessageClass(method.output_type).SerializeToString
        make = grpc.unary_stream_rpc_method_handler if method.server_streaming else grpc.unary_unary_rpc_method_handler
        handlers[method.name] = make(behaviour, reads, writes)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def bounded(reads: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Raises ValueError for more than MOST_BYTES, and what `reads` raises."""

    def read(message: bytes) -> Any:
        if len(message) > MOST_BYTES:
            raise ValueError(f"{len(message)} bytes; expected at most {MOST_BYTES}")
        return reads(message)

    return read
