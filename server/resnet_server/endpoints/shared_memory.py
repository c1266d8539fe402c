"""Regions of system shared memory that callers register, and that inputs are read from and outputs written to.

A caller may cut or remove a region at any time. It is therefore read and written through its descriptor, never mapped: touching a page
that is gone would end the process.
"""

import os
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resnet_proto.open_inference_pb2 import InferParameter

from resnet_server.errors import InvalidRequestError, ModelNotFoundError, QueueFullError, shown

FOLDER = Path("/dev/shm")  # noqa: S108  # where POSIX shared memory is
MOST_REGIONS = 256
LONGEST_NAME = 255
RETRY_SECONDS = 1.0
FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


REGION, SIZE, OFFSET = "shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"
Parameters = Mapping[str, InferParameter]


@dataclass(frozen=True)
class Place:
    """Where a tensor is: `size` bytes from `offset` on of a region; `field` names it in errors."""

    region: str
    offset: int
    size: int
    field: str


def place_of(parameters: Parameters, field: str) -> Place | None:
    """Where a tensor's parameters say that it is; None for one in the message. Raises InvalidRequestError for a wrong kind of value."""
    if REGION not in parameters:
        return None
    if parameters[REGION].WhichOneof("parameter_choice") != "string_param":
        raise InvalidRequestError(f"{field}.{REGION}: is no string_param; expected a region's name")
    if SIZE not in parameters:
        raise InvalidRequestError(f"{field}.{SIZE}: is missing beside {REGION}; expected the tensor's bytes")
    sizes = {name: _whole(parameters[name], f"{field}.{name}") if name in parameters else 0 for name in (SIZE, OFFSET)}
    return Place(parameters[REGION].string_param, sizes[OFFSET], sizes[SIZE], f"{field}.{REGION}")


def _whole(parameter: InferParameter, field: str) -> int:
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise InvalidRequestError(f"{field}: {value if kind == 'int64_param' else kind}; expected a whole number as int64_param")
    return int(value)


@dataclass(eq=False)
class Region:
    """`size` bytes from `offset` on of the memory called `key`; the lock keeps its descriptor open while it is used."""

    name: str
    key: str
    offset: int
    size: int
    descriptor: int
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def state(self) -> str:
        """What is wrong with it; empty where it is as it was registered."""
        if self.descriptor < 0:
            return "was unregistered"
        found = os.fstat(self.descriptor)
        if not found.st_nlink:
            return "was removed by its owner"
        return "" if found.st_size >= self.offset + self.size else f"was cut to {found.st_size} bytes by its owner"

    def close(self) -> None:
        """Let its memory go."""
        with self.lock:
            if self.descriptor >= 0:
                os.close(self.descriptor)
                self.descriptor = -1


class SharedRegions:
    """All regions by name: at most MOST_REGIONS, of `most` bytes together. Any thread may read and write."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._regions: dict[str, Region] = {}

    def register(self, name: str, key: str, offset: int, size: int) -> None:
        """Open a region; its memory has to be there. Raises InvalidRequestError, and QueueFullError beyond the bounds."""
        check_name(name)
        check_key(key)
        if not size:
            raise InvalidRequestError("byte_size: 0; expected at least 1")
        self.drop_dead()
        with self._lock:
            self._check_room(name, size)
            self._regions[name] = Region(name, key, offset, size, opened(key, offset, size))

    def unregister(self, name: str) -> None:
        """Forget a region, or all for an empty name; one that is not there is no error, as in Triton."""
        with self._lock:
            names = [name] if name else list(self._regions)
            gone = [self._regions.pop(each) for each in names if each in self._regions]
        for region in gone:
            region.close()

    def status(self, name: str) -> list[Region]:
        """A region, or all for an empty name; raises ModelNotFoundError."""
        self.drop_dead()
        with self._lock:
            if name and name not in self._regions:
                raise ModelNotFoundError(f"name: region '{shown(name)}' is not registered")
            return [self._regions[name]] if name else list(self._regions.values())

    def drop_dead(self) -> None:
        """Forget regions whose owners have removed or shortened their memory, so that it is freed."""
        with self._lock:
            dead = [region for region in self._regions.values() if region.state]
            for region in dead:
                del self._regions[region.name]
        for region in dead:
            region.close()

    def read(self, place: Place) -> NDArray[np.uint8]:
        """UINT8 [size], a copy: whatever the caller writes there later, what was checked is what is computed.

        Raises InvalidRequestError for what is not a part of a region.
        """
        region = self._part(place)
        data = np.empty(place.size, np.uint8)
        with region.lock:
            check_alive(region, place)
            done = os.preadv(region.descriptor, [data.data], region.offset + place.offset)
        if done != place.size:
            raise InvalidRequestError(f"{place.field}: region '{region.name}' was cut by its owner while it was read")
        return data

    def write(self, place: Place, data: bytes) -> None:
        """Write `data`, which fits, where `place` begins. Raises what `read` raises."""
        region = self._part(place)
        with region.lock:
            check_alive(region, place)
            os.pwrite(region.descriptor, data, region.offset + place.offset)

    def check(self, place: Place) -> None:
        """Raise what a `write` would raise now."""
        check_alive(self._part(place), place)

    def close(self) -> None:
        """Forget all."""
        self.unregister("")

    def _part(self, place: Place) -> Region:
        region = self._regions.get(place.region)
        if region is None:
            raise InvalidRequestError(f"{place.field}: region '{shown(place.region)}' is not registered")
        if place.offset + place.size > region.size:
            text = f"{place.size} bytes from {place.offset} on; region '{region.name}' has {region.size}"
            raise InvalidRequestError(f"{place.field}: {text}")
        return region

    def _check_room(self, name: str, size: int) -> None:
        if name in self._regions:
            raise InvalidRequestError(f"name: region '{name}' is registered already; unregister it first")
        if len(self._regions) >= MOST_REGIONS:
            raise QueueFullError(f"name: {len(self._regions)} regions are registered; unregister some first", RETRY_SECONDS)
        held = sum(region.size for region in self._regions.values())
        if held + size > self._most:
            raise QueueFullError(f"byte_size: {size} beside {held} registered bytes; expected at most {self._most} together", RETRY_SECONDS)


def check_alive(region: Region, place: Place) -> None:
    """Raises InvalidRequestError for a region that is unregistered, or whose owner has removed or cut it."""
    if state := region.state:
        raise InvalidRequestError(f"{place.field}: region '{region.name}' {state}")


def check_name(name: str) -> None:
    """Raises InvalidRequestError for a name that is empty or too long."""
    if not 1 <= len(name) <= LONGEST_NAME:
        raise InvalidRequestError(f"name: '{shown(name)}'; expected 1 to {LONGEST_NAME} characters")


def check_key(key: str) -> None:
    """Only names of shared memory, in its own folder: `/name` or `name`; semaphores are none."""
    name = key.removeprefix("/")
    if not name or name in (".", "..") or "/" in name or "\0" in name or name.startswith("sem.") or len(name.encode()) > LONGEST_NAME:
        raise InvalidRequestError(f"key: '{shown(key)}'; expected the name of shared memory, such as /images")


def opened(key: str, offset: int, size: int) -> int:
    """A descriptor; raises InvalidRequestError for what is not there, is no plain memory, or is too short."""
    try:
        descriptor = os.open(FOLDER / key.removeprefix("/"), FLAGS)
    except OSError as error:
        raise InvalidRequestError(f"key: shared memory '{shown(key)}' cannot be opened: {error.strerror}") from None
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or offset + size > found.st_size:
        os.close(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidRequestError(f"key: '{shown(key)}' is no shared memory")
        raise InvalidRequestError(f"byte_size: {size} bytes from {offset} on; '{shown(key)}' has {found.st_size}")
    return descriptor
