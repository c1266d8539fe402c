"""The ways to write a handler that are compared."""

from dataclasses import dataclass

CLASSES = 10
THREADS = 8


@dataclass(frozen=True)
class Way:
    """asyncio or a pool of threads, on uvloop or not, with messages parsed or as bytes, the collector tamed or as it comes."""

    asyncio: bool
    uvloop: bool
    protobuf: bool
    frozen: bool


WAYS = {
    "asyncio, uvloop, bytes, frozen": Way(asyncio=True, uvloop=True, protobuf=False, frozen=True),
    "the same, collector as it comes": Way(asyncio=True, uvloop=True, protobuf=False, frozen=False),
    "the same, without uvloop": Way(asyncio=True, uvloop=False, protobuf=False, frozen=True),
    "the same, messages parsed": Way(asyncio=True, uvloop=True, protobuf=True, frozen=True),
    "threads, bytes, frozen": Way(asyncio=False, uvloop=False, protobuf=False, frozen=True),
    "threads, messages parsed": Way(asyncio=False, uvloop=False, protobuf=True, frozen=True),
}
