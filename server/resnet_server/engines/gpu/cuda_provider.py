"""How files run on CUDA: the options of ONNX Runtime's provider, by precision and tactic."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from resnet_server.engines.api import CUDA_PROVIDER, EngineSpec, Images
from resnet_server.engines.device import preload_libraries
from resnet_server.engines.gpu.bound_session import BoundSession
from resnet_server.engines.gpu.bucket_sessions import BucketSessions, Search
from resnet_server.engines.gpu.driver import load_driver
from resnet_server.engines.gpu.tensorrt import tensorrt_obstacle, tensorrt_provider
from resnet_server.engines.gpu.tuning import Change, Tactic
from resnet_server.engines.gpu.tuning_cache import tuning_cache
from resnet_server.engines.session import CPU, ModelBytes, Provider, open_session
from resnet_server.errors import EngineError

log = logging.getLogger(__name__)

# Seconds that the first start on a GPU may search; TensorRT builds for about a minute a bucket, and keeps what it built.
SEARCH_SECONDS, TENSORRT_SECONDS = 60.0, 600.0
# How far a tactic's logits may be from the plainest one's, as a share of the largest logit: sums in another order, in fp32; in
# fp16 with its 11 bits, over some hundred layers; in INT8 a value at the edge of a step falls to either side. The certificate
# is replayed afterwards and is the judge; this only keeps a faulty tactic from costing the model its GPU.
TOLERANCES = {"fp32": 1e-3, "fp16": 3e-2, "int8": 1e-1}


def open_cuda(spec: EngineSpec, model: ModelBytes) -> BucketSessions:
    """Open a session of `model` for every bucket of `spec` on its GPU; raise EngineError if it is not there, or refused."""
    preload_libraries()
    precision, tensorrt = precision_of(spec.path), not tensorrt_obstacle()
    memo = tuning_cache(spec, model.sha256)
    search = Search(changes(precision, tensorrt), TOLERANCES[precision], TENSORRT_SECONDS if tensorrt else SEARCH_SECONDS, memo)
    return BucketSessions(spec.buckets, CudaOpener(spec, model, precision).open, search, page_locker(spec))


def precision_of(path: Path) -> str:
    """Of a file as published, `model.fp16.onnx`; another name counts as fp32, which has the most careful settings."""
    name = path.stem.rpartition(".")[2]
    return name if name in TOLERANCES else "fp32"


def changes(precision: str, tensorrt: bool) -> tuple[Change, ...]:
    """What may make a file of this precision faster, in the order to try.

    Tensor cores compute fp16 in NHWC. TensorRT knows INT8 with a zero point of 0 only, which ours have not.
    """
    nhwc: tuple[Change, ...] = (lambda tactic: replace(tactic, nhwc=True),) if precision == "fp16" else ()
    last: tuple[Change, ...] = (lambda tactic: replace(tactic, tensorrt=True),) if tensorrt and precision != "int8" else ()
    return (*nhwc, lambda tactic: replace(tactic, exhaustive=True), lambda tactic: replace(tactic, graph=True), *last)


def cuda_provider(device_id: int, tactic: Tactic) -> Provider:
    """The provider with its options, named as in ONNX Runtime's documentation of the CUDA execution provider.

    The search for algorithms is never DEFAULT, which since 1.20 means cuDNN's last resort. A session has one shape, so its arena
    need not grow in powers of two. Copies stay on the stream of the computation: on others they may race it.
    """
    options = {
        "device_id": str(device_id),
        "cudnn_conv_algo_search": "EXHAUSTIVE" if tactic.exhaustive else "HEURISTIC",
        "cudnn_conv_use_max_workspace": "1",
        "do_copy_in_default_stream": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "prefer_nhwc": str(int(tactic.nhwc)),
        "enable_cuda_graph": str(int(tactic.graph and not tactic.tensorrt)),
    }
    return CUDA_PROVIDER, options


class CudaOpener:
    """Opens one file in one bucket with a tactic, on the GPU as a whole where that is possible."""

    def __init__(self, spec: EngineSpec, model: ModelBytes, precision: str) -> None:
        self._spec = spec
        self._model = model
        self._precision = precision
        self._whole = True

    def open(self, rows: int, tactic: Tactic) -> BoundSession:
        """Return a session for `rows` rows with buffers on the GPU; raise EngineError if ONNX Runtime refuses it."""
        spec = self._spec
        providers = [cuda_provider(spec.device.id, tactic)]
        if tactic.tensorrt:
            providers.insert(0, tensorrt_provider(spec, self._model.sha256, rows, half=self._precision == "fp16", graph=tactic.graph))
        return BoundSession(self._open(providers), rows, spec.height, spec.width, ("cuda", spec.device.id), spec.channels)

    def _open(self, providers: list[Provider]) -> object:
        spec = self._spec
        if not self._whole:
            return open_session(self._model, [*providers, CPU], spec.threads)
        try:
            return open_session(self._model, providers, spec.threads)
        except EngineError as error:
            session = open_session(self._model, [*providers, CPU], spec.threads)
            log.warning("%s: some nodes run on the CPU, because %s", spec.path.name, error)
            self._whole = False
            return session


def page_locker(spec: EngineSpec) -> Callable[[Images], Callable[[], None]]:
    """What page-locks slots for the GPU of `spec`: ONNX Runtime's Python interface has no page-locked values of its own."""
    return lambda slot: load_driver().lock_pages(spec.device.id, slot.ctypes.data, slot.nbytes)
