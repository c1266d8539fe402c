"""Which runtimes may compute: ONNX Runtime everywhere, OpenVINO on the CPU where it is installed."""

import importlib.metadata
import os
from collections.abc import Iterable
from pathlib import Path

import onnxruntime

from resnet_server.engines.api import ONNXRUNTIME, OPENVINO, Device
from resnet_server.errors import StartError

CHOICES = ("auto", ONNXRUNTIME, OPENVINO)
SHARES_MEMORY = hasattr(os, "memfd_create")
OWN_SIZES = 16  # larger batches compute so long that planning the layers anew hardly counts
MOST_BYTES_OF_OWN_SIZES = 8 << 20  # a larger file computes for milliseconds an image, and would be held in memory that often


def computes_in_process(engine_mode: str) -> bool:
    """Whether engines are threads of the server's process: as asked, or where processes cannot share memory."""
    return engine_mode == "thread" or not SHARES_MEMORY


def pick_runtimes(name: str, device: Device, engine_mode: str = "auto") -> tuple[str, ...]:
    """Resolve auto, onnxruntime or openvino to those that are tried; raise StartError where the one asked for cannot compute."""
    if name == ONNXRUNTIME:
        return (ONNXRUNTIME,)
    obstacle = openvino_obstacle(device, engine_mode)
    if name == OPENVINO:
        if obstacle is not None:
            raise StartError(f"runtime: openvino cannot compute here: {obstacle}")
        return (OPENVINO,)
    return (ONNXRUNTIME,) if obstacle is not None else (ONNXRUNTIME, OPENVINO)


def openvino_obstacle(device: Device, engine_mode: str) -> str | None:
    """Say what keeps OpenVINO from computing, or None."""
    if device.kind != "cpu":
        return f"it is for the CPU, and the device is {device}; expected --device cpu"
    if computes_in_process(engine_mode):
        return "it computes in processes of its own only; expected Linux, and --engine-mode auto or process"
    if not runtime_version(OPENVINO):
        return "it is not installed; pip install 'resnet-serving[openvino]' brings it"
    return None


def runtime_version(runtime: str) -> str:
    """As installed, without importing OpenVINO; empty where it is not."""
    if runtime == ONNXRUNTIME:
        return str(onnxruntime.__version__)
    try:
        return importlib.metadata.version(OPENVINO)
    except importlib.metadata.PackageNotFoundError:
        return ""


def own_sizes(runtime: str, files: Iterable[Path]) -> int:
    """Up to which number of rows each has a compiled model of its own, for an engine that computes these files; 0: none."""
    if runtime != OPENVINO:
        return 0
    return OWN_SIZES if sum(file.stat().st_size for file in files) <= MOST_BYTES_OF_OWN_SIZES else 0
