"""Slots of images and logits in memory shared by two processes; without a name, so that no exit leaves it behind."""

import mmap
import os

import numpy as np

from resnet_server.engines.interface import EngineSpec, Images, Logits

ALIGNMENT = 64  # a cache line, and the widest vector


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Slots:
    """`count` slots of UINT8 [max_rows, height, width, 3] and FP32 [max_rows, classes] over a file descriptor."""

    def __init__(self, fd: int, spec: EngineSpec, count: int) -> None:
        image_bytes, logit_bytes = sizes(spec)
        size = image_bytes + logit_bytes
        memory = mmap.mmap(fd, count * size)
        shape, classes = (spec.max_rows, spec.height, spec.width, 3), (spec.max_rows, spec.classes)
        self.images: list[Images] = [np.ndarray(shape, np.uint8, memory, i * size) for i in range(count)]
        self.logits: list[Logits] = [np.ndarray(classes, np.float32, memory, i * size + image_bytes) for i in range(count)]

    def close(self) -> None:
        """Let go of the memory, which the arrays hold."""
        self.images, self.logits = [], []


def sizes(spec: EngineSpec) -> tuple[int, int]:
    """Bytes of a slot's images and of its logits."""
    return _aligned(spec.max_rows * spec.height * spec.width * 3), _aligned(4 * spec.max_rows * spec.classes)


def allocate(spec: EngineSpec, count: int) -> int:
    """A file descriptor of anonymous memory for `count` slots; it lives as long as somebody holds it."""
    fd = os.memfd_create("resnet-slots")
    os.ftruncate(fd, count * sum(sizes(spec)))
    return fd
