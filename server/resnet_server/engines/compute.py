"""A batch through one file: by sessions of ONNX Runtime, or by what OpenVINO compiled."""

from typing import Any

from resnet_server.engines.api import CUDA_PROVIDER, OPENVINO, EngineSpec, Images, Logits
from resnet_server.engines.gpu.bucket_sessions import BucketSessions
from resnet_server.engines.gpu.cuda_provider import open_cuda
from resnet_server.engines.openvino.compiled import CompiledNetwork
from resnet_server.engines.session import CPU, Provider, open_session, read_model
from resnet_server.errors import EngineError


class Compute:
    """Runs batches of up to `spec.max_rows` rows on the calling thread, which should always be the same.

    On CUDA every bucket has a session of its own, since a convolution keeps one cuDNN plan and rebuilds it for another batch
    shape (onnxruntime#23006), and batches are padded up to their bucket. On CPU any size runs as it is. OpenVINO compiles what it
    needs when it needs it first: `prepare` or `warm_up` does that beforehand.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.padded: BucketSessions | None = None
        self.compiled: CompiledNetwork | None = None
        self._session: Any = None
        self._wide: Any = None
        model = read_model(spec.path, spec.sha256)
        if spec.device.provider == CUDA_PROVIDER:
            self.padded = open_cuda(spec, model)
            return
        if spec.runtime == OPENVINO:
            self.compiled = CompiledNetwork(spec, model)
            return
        wanted: Provider = (spec.device.provider, {})
        providers = [CPU] if wanted == CPU else [wanted, CPU]
        self._session = open_session(model, providers, spec.threads)
        self._wide = open_session(model, providers, spec.wide_threads, spinning=True) if spec.wide_threads else None

    def warm_up(self, slot: Images) -> None:
        """Run every bucket of `slot` once, so that no request pays for a first run; raise EngineError if one fails.

        On CUDA the fastest way to run each is sought, too, which overwrites `slot`.
        """
        if self.padded is not None:
            self.padded.warm_up(slot)
            return
        for bucket in self.spec.buckets:
            self.run(slot, bucket, wide=False)
            if self.spec.wide_threads:
                self.run(slot, bucket, wide=True)

    def prepare(self, rows: int, wide: bool) -> None:
        """Have ready what computes batches of this size; raise EngineError if that fails. Only OpenVINO has something to do."""
        if self.compiled is not None:
            self.compiled.prepare(rows, wide)

    def pin(self, slot: Images) -> None:
        """Make copies from `slot` to a GPU faster; `warm_up` does it for its own. Nothing to do on CPU."""
        if self.padded is not None:
            self.padded.pin(slot)

    def unpin(self, slot: Images) -> None:
        """Undo `pin`, before the memory of `slot` goes away."""
        if self.padded is not None:
            self.padded.unpin(slot)

    def run(self, slot: Images, rows: int, wide: bool) -> Logits:
        """Compute the first `rows` of UINT8 [>= bucket, h, w, 3] to FP32 [rows, classes]; raise EngineError if it fails."""
        if self.padded is not None:
            return self.padded.run(slot, rows)
        if self.compiled is not None:
            return self.compiled.run(slot, rows, wide)
        session = self._wide if wide and self._wide is not None else self._session
        try:
            logits: Logits = session.run(["logits"], {"image": slot[:rows]})[0]
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise EngineError(f"ONNX Runtime failed on {rows} rows: {' '.join(str(error).split())}") from None
        return logits
