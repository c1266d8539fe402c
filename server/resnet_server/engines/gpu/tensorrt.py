"""How files run on TensorRT: a candidate beside CUDA where its libraries are there."""

import ctypes
import importlib.util
import os
from functools import cache
from pathlib import Path

import onnxruntime

from resnet_server.engines.api import EngineSpec
from resnet_server.engines.device import missing_library
from resnet_server.engines.gpu.tuning_cache import fingerprint, user_cache
from resnet_server.engines.session import Provider
from resnet_server.errors import EngineError

TENSORRT_PROVIDER = "TensorrtExecutionProvider"
WHEEL = "tensorrt_libs"  # where NVIDIA's wheels put the libraries, off the path that the loader searches
LIBRARIES = ("libnvinfer.so.*", "libnvinfer_plugin.so.*", "libnvonnxparser.so.*")


@cache
def tensorrt_obstacle() -> str | None:
    """Say what keeps TensorRT from running, or None; ONNX Runtime lists the provider even where it cannot be loaded."""
    if TENSORRT_PROVIDER not in onnxruntime.get_available_providers():
        return f"this onnxruntime {onnxruntime.__version__} is a build without TensorRT"
    _preload_wheel()
    return missing_library("libonnxruntime_providers_tensorrt.so", "TensorRT")


def _preload_wheel() -> None:
    found = importlib.util.find_spec(WHEEL)
    for folder in (found.submodule_search_locations or ()) if found else ():
        for pattern in LIBRARIES:
            for library in sorted(Path(folder).glob(pattern)):
                try:
                    ctypes.CDLL(str(library), mode=os.RTLD_GLOBAL)
                except OSError:  # `missing_library` says what is missing in the end
                    return


def tensorrt_provider(spec: EngineSpec, sha256: str, rows: int, half: bool, graph: bool) -> Provider:
    """The provider with its options, named as in ONNX Runtime's documentation of the TensorRT execution provider.

    The profile is one shape: a bucket has a session of its own. `half` allows fp16 kernels, `graph` replays a CUDA graph. Raises
    EngineError where engines cannot be kept.
    """
    shape = f"image:{rows}x{spec.height}x{spec.width}x{spec.channels}"
    try:
        folder = cache_folder(spec, sha256)
        engines = folder / str(rows)
        engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EngineError(f"{spec.path.name}: there is no place to keep TensorRT's engines: {error}") from None
    options = {
        "device_id": str(spec.device.id),
        "trt_fp16_enable": str(int(half)),
        "trt_cuda_graph_enable": str(int(graph)),
        "trt_profile_min_shapes": shape,
        "trt_profile_opt_shapes": shape,
        "trt_profile_max_shapes": shape,
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    return TENSORRT_PROVIDER, options


def cache_folder(spec: EngineSpec, sha256: str) -> Path:
    """Where the engines of a file are kept: beside it, or in the user's cache where its folder is read-only.

    ONNX Runtime names engines after the graph, neither after weights nor shapes (onnxruntime#6455, #32254), and an engine runs
    only on the GPU and the version it was built with: so the folder is named after file, GPU and version.
    """
    beside = spec.path.parent if os.access(spec.path.parent, os.W_OK) else user_cache()
    return beside / "tensorrt" / fingerprint(spec, sha256)
