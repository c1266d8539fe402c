"""SharedSlots of images and logits in memory shared by two processes; without a name, so that no exit leaves it behind."""

import mmap
import os

import numpy as np

from resnet_server.engines.api import EngineSpec, Images, Logits

ALIGNMENT = mmap.PAGESIZE  # memory is locked for a GPU by pages, which no two slots may share
IDLE = -1


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class SharedSlots:
    """`count` slots of UINT8 [max_rows, height, width, channels] and FP32 [max_rows, classes] over a file descriptor.

    `running` is the slot that the engine computes, or IDLE: what it was doing can be read after it died.
    """

    def __init__(self, fd: int, spec: EngineSpec, count: int) -> None:
        image_bytes, logit_bytes = sizes(spec)
        size = image_bytes + logit_bytes
        memory = mmap.mmap(fd, ALIGNMENT + count * size)
        shape, classes = (spec.max_rows, spec.height, spec.width, spec.channels), (spec.max_rows, spec.classes)
        starts = [ALIGNMENT + i * size for i in range(count)]
        self._running = np.ndarray(1, np.int32, memory)
        self.images: list[Images] = [np.ndarray(shape, np.uint8, memory, start) for start in starts]
        self.logits: list[Logits] = [np.ndarray(classes, np.float32, memory, start + image_bytes) for start in starts]

    @property
    def running(self) -> int:
        """The slot that is computed."""
        return int(self._running[0])

    @running.setter
    def running(self, slot: int) -> None:
        self._running[0] = slot

    def close(self) -> None:
        """Let go of the memory, which the arrays hold."""
        self._running = np.array([IDLE], np.int32)
        self.images, self.logits = [], []


def sizes(spec: EngineSpec) -> tuple[int, int]:
    """Bytes of a slot's images and of its logits."""
    return _aligned(spec.max_rows * spec.height * spec.width * spec.channels), _aligned(4 * spec.max_rows * spec.classes)


def allocate(spec: EngineSpec, count: int) -> int:
    """A file descriptor of anonymous memory for `count` slots; it lives as long as somebody holds it."""
    fd = os.memfd_create("resnet-slots")
    os.ftruncate(fd, ALIGNMENT + count * sum(sizes(spec)))
    return fd
