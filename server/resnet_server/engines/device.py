"""Which device computes: CUDA only where a session really runs on it."""

import ctypes
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import onnxruntime

from resnet_server.errors import StartError

log = logging.getLogger(__name__)

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"


@dataclass(frozen=True)
class Device:
    """`kind` is cpu or cuda; `provider` is ONNX Runtime's name; `reason` says why it was chosen."""

    kind: str
    provider: str
    reason: str


def pick_device(name: str) -> Device:
    """Resolve auto, cpu or cuda; raise StartError naming the missing library where cuda was asked for and cannot run."""
    if name == "cpu":
        return Device("cpu", CPU_PROVIDER, "asked for")
    if name not in ("auto", "cuda"):
        raise StartError(f"device: '{name}' is unknown; expected auto, cpu or cuda")
    obstacle = cuda_obstacle()
    if obstacle is None:
        return Device("cuda", CUDA_PROVIDER, "asked for" if name == "cuda" else "CUDA runs here")
    if name == "cuda":
        raise StartError(f"device: cuda cannot run here: {obstacle}")
    return Device("cpu", CPU_PROVIDER, f"no CUDA: {obstacle}")


def cuda_obstacle() -> str | None:
    """Say what keeps CUDA from running, or None; ONNX Runtime lists the provider even where it cannot be loaded."""
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return f"this onnxruntime {onnxruntime.__version__} is a build without CUDA; install onnxruntime-gpu"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"the NVIDIA driver library is missing ({error})"
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or not count.value:
        return "the NVIDIA driver finds no device"
    onnxruntime.preload_dlls(directory="")  # finds the libraries that torch or the nvidia wheels brought
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    try:
        ctypes.CDLL(str(library), mode=os.RTLD_LAZY)
    except OSError as error:
        if "Provider_GetHost" not in str(error):  # that symbol comes from ONNX Runtime itself, once it loads the library
            return f"a library of CUDA or cuDNN is missing ({error})"
    return None


def available_cores() -> int:
    """Cores this process may use: affinity, and the cgroup limit, which ONNX Runtime ignores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = cgroup_cores(Path("/sys/fs/cgroup"))
    return max(1, min(cores, int(limit))) if limit else cores


def cgroup_cores(root: Path) -> float | None:
    """CPU limit in cores of cgroup v2 (`cpu.max`) or v1 (`cpu.cfs_quota_us`); None where there is none."""
    try:
        quota, period = (root / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota_us = int((root / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii"))
        period_us = int((root / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return quota_us / period_us if quota_us > 0 else None
