"""The methods of a service, registered with bounds on what they read."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass

MOST_BYTES = 1 << 16
"""Of a request that holds no images: names and a few numbers. Parsed at once, on the event loop that serves all."""

MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""By whether the caller streams, and whether the server does."""


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, *servicers: object, serialised: Collection[str] = ()) -> None:
    """Register the methods that one of `servicers` has; those named in `serialised` get and give the bytes of their messages.

    What is too long or cannot be read, the transport answers INVALID_ARGUMENT.
    """
    handlers = {}
    for method in service.methods:
        behaviour = behaviour_of(method.name, servicers)
        if behaviour is None:
            continue
        make = MAKERS[method.client_streaming, method.server_streaming]
        if method.name in serialised:
            handlers[method.name] = make(behaviour)
        else:
            reads = bounded(GetMessageClass(method.input_type).FromString)
            handlers[method.name] = make(behaviour, reads, GetMessageClass(method.output_type).SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))


def behaviour_of(name: str, servicers: Iterable[object]) -> Any:
    """The method of that name of the first servicer that has it, or None."""
    return next((getattr(servicer, name) for servicer in servicers if hasattr(servicer, name)), None)


def bounded(reads: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Raises ValueError for more than MOST_BYTES, and what `reads` raises."""

    def read(message: bytes) -> Any:
        if len(message) > MOST_BYTES:
            raise ValueError(f"{len(message)} bytes; expected at most {MOST_BYTES}")
        return reads(message)

    return read
