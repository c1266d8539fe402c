"""What the batcher asks of an engine. Imports neither ONNX Runtime nor a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_server.errors import ServingError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"
OPENVINO_PROVIDER = "OpenVINO"
ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"
RUNTIME_NAMES = {ONNXRUNTIME: "ONNX Runtime", OPENVINO: "OpenVINO"}
Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Device:
    """`kind` is cpu or cuda; `provider` is ONNX Runtime's name for it; `reason` says why it was chosen; `id` and `name` are a GPU's.

    Positional, and of strings and a number: `dataclasses.astuple` crosses a process border as JSON.
    """

    kind: str
    provider: str
    reason: str
    id: int = 0
    name: str = ""

    def provider_of(self, runtime: str) -> str:
        """What computes, as callers and metrics are told: ONNX Runtime's provider, or OpenVINO."""
        return OPENVINO_PROVIDER if runtime == OPENVINO else self.provider

    def __str__(self) -> str:
        return f"{self.kind}:{self.id} ({self.name})" if self.kind == "cuda" else self.kind


@dataclass(frozen=True)
class NetworkFile:
    """A file whose digest is `sha256`; empty: any."""

    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class EngineSpec:
    """One file on one device: batches of at most `max_rows` images of `height` x `width` x `channels`, answered with `classes` logits.

    `threads` are intra-op threads; a batch that is alone on the machine runs on `wide_threads` (0: as all others). An engine computes
    with the very bytes whose digest is `sha256`, or not at all; empty: any. `others` are networks of the same input and output that
    the engine computes, too: each batch names one by its number, and 0 is `path`. `niceness` is that of its process, 0 to 19.
    `runtime` is what computes: ONNX Runtime or OpenVINO. Each number of rows up to `own_sizes` is compiled by itself; 0: none is.
    """

    path: Path
    device: Device
    threads: int
    wide_threads: int
    max_rows: int
    height: int
    width: int
    classes: int
    sha256: str = ""
    channels: int = 3
    others: tuple[NetworkFile, ...] = ()
    niceness: int = 0
    runtime: str = ONNXRUNTIME
    own_sizes: int = 0

    @property
    def networks(self) -> "tuple[EngineSpec, ...]":
        """A spec for each network alone, by number."""
        return replace(self, others=()), *(replace(self, path=file.path, sha256=file.sha256, others=()) for file in self.others)

    @property
    def buckets(self) -> tuple[int, ...]:
        """The sizes that are warmed and replayed: 1, 2, 4 ... `max_rows`, and each that is compiled by itself."""
        own = range(1, min(self.own_sizes, self.max_rows) + 1)
        return tuple(sorted({*own, *power_of_two_buckets(self.max_rows)}))

    def blank(self) -> Images:
        """A slot of black images, to warm up with."""
        return np.zeros((self.max_rows, self.height, self.width, self.channels), np.uint8)


def is_on_host(provider: str) -> bool:
    """Whether this provider computes on the host's cores, which it then shares with front ends and everybody else."""
    return provider in (CPU_PROVIDER, OPENVINO_PROVIDER)


def power_of_two_buckets(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4 ... `max_rows`."""
    buckets = [1]
    while buckets[-1] < max_rows:
        buckets.append(min(2 * buckets[-1], max_rows))
    return tuple(buckets)


@dataclass(frozen=True)
class Outcome:
    """How a batch ended: `logits` FP32 [rows, classes] after `seconds` of computing, or `error`.

    Where an engine died before it `begun` the batch, another engine can run it.
    """

    logits: Logits | None = None
    seconds: float = 0.0
    error: ServingError | None = None
    begun: bool = True


class Engine(Protocol):
    """Computes batches in the order given, at most `depth` at a time."""

    @property
    def depth(self) -> int:
        """Batches it takes at a time: with 2, the next one lies ready when one ends."""

    @property
    def ready(self) -> bool:
        """False while it starts, or starts again."""

    def start(self, parts: Sequence[Images], rows: int, alone: bool, done: Callable[[Outcome], None], network: int = 0) -> None:
        """Compute UINT8 [rows, h, w, 3], given in parts, and call `done` on the event loop, never at once; may come from any thread.

        `alone`: nothing else runs or waits. `network`: which one of the engine's computes.
        """

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` on the event loop whenever `ready` has changed."""

    def kill(self) -> None:
        """End it, for a batch hangs in it; it may start again. Called on the event loop; what cannot be ended stays as it is."""
