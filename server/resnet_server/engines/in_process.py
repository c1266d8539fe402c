"""An engine in this process: a thread, an input slot and ONNX Runtime sessions.

ONNX Runtime releases the GIL while it computes, so the event loop goes on.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from resnet_server.batching import Images, Logits
from resnet_server.engines.device import CUDA_PROVIDER, Device
from resnet_server.engines.session import open_session
from resnet_server.errors import EngineError


def power_of_two_buckets(max_rows: int) -> tuple[int, ...]:
    """1, 2, 4 ... `max_rows`."""
    buckets = [1]
    while buckets[-1] < max_rows:
        buckets.append(min(2 * buckets[-1], max_rows))
    return tuple(buckets)


class InProcessEngine:
    """Runs one batch at a time; `max_rows` rows of UINT8 [height, width, 3] fit its slot.

    On CUDA every bucket has a session of its own, since a convolution keeps one cuDNN plan and rebuilds it for
    another batch shape (onnxruntime#23006), and batches are padded up to their bucket. On CPU any size runs as it is.
    """

    def __init__(self, path: Path, device: Device, *, threads: int, max_rows: int, height: int, width: int) -> None:
        self.device = device
        self.threads = threads
        self.buckets = power_of_two_buckets(max_rows)
        self._slot = np.zeros((max_rows, height, width, 3), np.uint8)
        shared = None if device.provider == CUDA_PROVIDER else open_session(path, device, threads)
        self._sessions = {bucket: shared or open_session(path, device, threads) for bucket in self.buckets}
        self._pads = shared is None
        self._thread = ThreadPoolExecutor(1, "engine")

    def warm_up(self) -> None:
        """Run every bucket once, so that no request pays for a first run; raise EngineError if one fails."""
        for bucket in self.buckets:
            self.compute(bucket)

    async def run(self, parts: Sequence[Images], rows: int) -> Logits:
        """Write the parts into the slot and compute them: UINT8 [rows, h, w, 3] to FP32 [rows, classes]."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._fill_and_compute, parts, rows)

    def compute_rows(self, rows: Images) -> Logits:
        """Compute UINT8 [n, h, w, 3] on the calling thread; only before the engine serves."""
        return self._fill_and_compute([rows], len(rows))

    def _fill_and_compute(self, parts: Sequence[Images], rows: int) -> Logits:
        offset = 0
        for part in parts:
            self._slot[offset : offset + len(part)] = part
            offset += len(part)
        return self.compute(rows)

    def compute(self, rows: int) -> Logits:
        """Compute the first `rows` rows of the slot on the calling thread."""
        bucket = next(size for size in self.buckets if size >= rows)
        session: Any = self._sessions[bucket]
        size = bucket if self._pads else rows
        try:
            logits: Logits = session.run(["logits"], {"image": self._slot[:size]})[0]
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise EngineError(f"ONNX Runtime failed on {rows} rows: {' '.join(str(error).split())}") from None
        return logits[:rows]

    def close(self) -> None:
        """Wait for the running batch and free the sessions."""
        self._thread.shutdown()
        self._sessions.clear()
