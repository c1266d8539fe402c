"""The ways to write a handler that are compared."""

from dataclasses import dataclass

CLASSES = 10
THREADS = 8
AIO, THREAD_POOL, QUEUE = "grpc.aio:server", "grpc:server", "resnet_server.transport.server:QueueServer"


@dataclass(frozen=True)
class Way:
    """What makes the server, as `module:name`; on uvloop or not; messages parsed or as bytes; the collector tamed or as it comes.

    `direct`: answered on the thread that takes calls in, without the event loop.
    """

    server: str
    uvloop: bool
    protobuf: bool
    frozen: bool
    direct: bool = False


WAYS = {
    "the server's own, direct": Way(QUEUE, uvloop=True, protobuf=False, frozen=True, direct=True),
    "the server's own, on the event loop": Way(QUEUE, uvloop=True, protobuf=False, frozen=True),
    "grpc.aio, uvloop, bytes, frozen": Way(AIO, uvloop=True, protobuf=False, frozen=True),
    "the same, collector as it comes": Way(AIO, uvloop=True, protobuf=False, frozen=False),
    "the same, without uvloop": Way(AIO, uvloop=False, protobuf=False, frozen=True),
    "the same, messages parsed": Way(AIO, uvloop=True, protobuf=True, frozen=True),
    "threads, bytes, frozen": Way(THREAD_POOL, uvloop=False, protobuf=False, frozen=True),
    "threads, messages parsed": Way(THREAD_POOL, uvloop=False, protobuf=True, frozen=True),
}
