"""Which devices compute: CUDA only where a session really runs on it."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import onnxruntime

from resnet_server.engines.api import CPU_PROVIDER, CUDA_PROVIDER, Device
from resnet_server.engines.gpu.driver import Driver, DriverError, load_driver
from resnet_server.errors import StartError

TF32_SWITCH = "NVIDIA_TF32_OVERRIDE"


def pick_device(name: str) -> Device:
    """Resolve auto, cpu or cuda to one device; see `pick_devices`."""
    return pick_devices(name)[0]


def pick_devices(name: str, ids: tuple[int, ...] = ()) -> tuple[Device, ...]:
    """Resolve auto, cpu or cuda, and the numbers of GPUs (none given: all that there are), to the devices that get engines.

    Raises StartError naming the missing library where cuda, or a GPU by its number, was asked for and cannot run.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise StartError(f"device: '{name}' is unknown; expected auto, cpu or cuda")
    if name == "cpu":
        if ids:
            raise StartError(f"devices: {_listed(ids)} are GPUs, but --device is cpu; expected cuda or auto")
        return (Device("cpu", CPU_PROVIDER, "asked for"),)
    obstacle = cuda_obstacle()
    if obstacle is None:
        return cuda_devices(load_driver(), ids, "asked for" if name == "cuda" or ids else "CUDA runs here")
    if name == "cuda" or ids:
        raise StartError(f"device{'s' if ids else ''}: {_listed(ids) or 'cuda'} cannot run here: {obstacle}")
    return (Device("cpu", CPU_PROVIDER, f"no CUDA: {obstacle}"),)


def cuda_devices(driver: Driver, ids: tuple[int, ...], reason: str) -> tuple[Device, ...]:
    """The GPUs with these numbers, or all; raise StartError naming a number that is not there, and how many there are."""
    count = driver.count
    if missing := [index for index in ids if not 0 <= index < count]:
        there = "1 GPU, number 0" if count == 1 else f"{count} GPUs, numbers 0 to {count - 1}"
        raise StartError(f"devices: {_listed(missing)} not here; there {'is' if count == 1 else 'are'} {there}")
    return tuple(Device("cuda", CUDA_PROVIDER, reason, index, driver.name(index)) for index in ids or range(count))


def parse_device_ids(text: str) -> tuple[int, ...]:
    """`0,1` to its numbers, an empty text to none; raise StartError for anything else or a number given twice."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdecimal() for part in parts) or len({int(part) for part in parts}) != len(parts):
        raise StartError(f"devices: '{text}'; expected different numbers of GPUs separated by commas, such as 0,1")
    return tuple(int(part) for part in parts)


def cuda_obstacle() -> str | None:
    """Say what keeps CUDA from running, or None; ONNX Runtime lists the provider even where it cannot be loaded."""
    if CUDA_PROVIDER not in onnxruntime.get_available_providers():
        return f"this onnxruntime {onnxruntime.__version__} is a build without CUDA; install onnxruntime-gpu"
    try:
        if not load_driver().count:
            return "the NVIDIA driver finds no device"
    except DriverError as error:
        return str(error)
    preload_libraries()
    return missing_library("libonnxruntime_providers_cuda.so", "CUDA or cuDNN")


def preload_libraries() -> None:
    """Load what torch or the nvidia wheels brought, with TF32 off.

    Convolutions of cuDNN's graph interface use TF32 whatever `use_tf32` says (onnxruntime#19470), which puts fp32 logits off by
    0.3 (onnxruntime#19288); NVIDIA's libraries read this variable as they start. Other precisions never use TF32.
    """
    os.environ.setdefault(TF32_SWITCH, "0")
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
        onnxruntime.preload_dlls(directory="")


def missing_library(provider: str, brings: str) -> str | None:
    """Load one of ONNX Runtime's provider libraries and say what it lacks, or None."""
    library = Path(onnxruntime.__file__).parent / "capi" / provider
    try:
        ctypes.CDLL(str(library), mode=os.RTLD_LAZY)
    except OSError as error:
        if "Provider_GetHost" not in str(error):  # that symbol comes from ONNX Runtime itself, once it loads the library
            return f"a library of {brings} is missing ({error})"
    return None


def _listed(ids: tuple[int, ...] | list[int]) -> str:
    return ", ".join(map(str, ids))


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
