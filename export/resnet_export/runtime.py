"""ONNX Runtime as the certificate runs it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from resnet_export.errors import ExportError

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
ERROR_SEVERITY = 3


def open_session(path: Path, provider: str = "cpu") -> Any:
    """Open a session on `cpu` or `cuda`; raise ExportError if it cannot be opened or fell back to another provider."""
    name = PROVIDERS[provider]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = ERROR_SEVERITY
    if provider == "cuda":
        onnxruntime.preload_dlls(directory="")
    wanted: list[Any] = [(name, {"use_tf32": "0"})] if provider == "cuda" else [name]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    except Exception as error:  # ONNX Runtime raises a type of its own for every kind of defect
        raise ExportError(f"{path.name}: ONNX Runtime cannot load it: {' '.join(str(error).split())}") from None
    if session.get_providers()[0] != name:
        raise ExportError(f"provider: {name} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def run_in_batches(session: Any, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """Compute UINT8 [n, h, w, 3] in batches of `batch` to FP32 [n, classes]; raise ExportError if the graph does not take them."""
    try:
        parts = [session.run(["logits"], {"image": images[i : i + batch]})[0] for i in range(0, len(images), batch)]
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise ExportError(f"ONNX Runtime failed on a batch of {batch}: {' '.join(str(error).split())}") from None
    logits = np.concatenate(parts)
    if len(logits) != len(images):
        raise ExportError(f"ONNX Runtime answered {len(logits)} rows for {len(images)} images in batches of {batch}")
    return logits
