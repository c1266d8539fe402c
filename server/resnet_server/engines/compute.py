"""ONNX Runtime sessions of one file, and a batch through them."""

from typing import Any

from resnet_server.engines.device import CUDA_PROVIDER
from resnet_server.engines.interface import EngineSpec, Images, Logits
from resnet_server.engines.session import open_session
from resnet_server.errors import EngineError


class Compute:
    """Runs batches of up to `spec.max_rows` rows on the calling thread.

    On CUDA every bucket has a session of its own, since a convolution keeps one cuDNN plan and rebuilds it for another batch
    shape (onnxruntime#23006), and batches are padded up to their bucket. On CPU any size runs as it is.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.pads = spec.device.provider == CUDA_PROVIDER
        shared = None if self.pads else open_session(spec.path, spec.device, spec.threads)
        self._sessions: dict[int, Any] = {b: shared or open_session(spec.path, spec.device, spec.threads) for b in spec.buckets}
        self._wide: Any = open_session(spec.path, spec.device, spec.wide_threads) if spec.wide_threads else None

    def warm_up(self, slot: Images) -> None:
        """Run every bucket of `slot` once, so that no request pays for a first run; raise EngineError if one fails."""
        for bucket in self.spec.buckets:
            self.run(slot, bucket, wide=False)
            if self._wide is not None:
                self.run(slot, bucket, wide=True)

    def run(self, slot: Images, rows: int, wide: bool) -> Logits:
        """Compute the first `rows` of UINT8 [>= bucket, h, w, 3] to FP32 [rows, classes]; raise EngineError if it fails."""
        if wide and self._wide is not None:
            session, size = self._wide, rows
        else:
            bucket = next(bucket for bucket in self.spec.buckets if bucket >= rows)
            session, size = self._sessions[bucket], bucket if self.pads else rows
        try:
            logits: Logits = session.run(["logits"], {"image": slot[:size]})[0]
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise EngineError(f"ONNX Runtime failed on {rows} rows: {' '.join(str(error).split())}") from None
        return logits[:rows]
