"""ONNX Runtime as the certificate runs it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from resnet_export.errors import ExportError

Logits = NDArray[np.float32]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
BATCH_SIZES = (1, 2, 7, 64)
"""In which every image is computed: a frozen batch dimension or a plan that depends on the batch shows."""
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


def run_in_batches(session: Any, images: NDArray[np.uint8], batch: int, advance: Callable[[int], None] = lambda _: None) -> Logits:
    """Compute UINT8 [n, h, w, channels] in batches of `batch` to FP32 [n, classes]; raise ExportError if the graph does not take them."""
    slices = [images[start : start + batch] for start in range(0, len(images), batch)]
    return np.concatenate([_run(session, rows, advance) for rows in slices])


def run_full_batches(session: Any, images: NDArray[np.uint8], batch: int, advance: Callable[[int], None] = lambda _: None) -> Logits:
    """As `run_in_batches`, but every batch is full: the first images come again at the end, as often as needed.

    FP32 [m, classes] with m the multiple of `batch` from n on; row i is of image i modulo n.
    """
    starts = range(0, rows_of_full_batches(len(images), batch), batch)
    return np.concatenate([_run(session, images.take(np.arange(s, s + batch), axis=0, mode="wrap"), advance) for s in starts])


def rows_of_full_batches(images: int, batch: int) -> int:
    """How many rows `run_full_batches` computes."""
    return -(-images // batch) * batch


def _run(session: Any, rows: NDArray[np.uint8], advance: Callable[[int], None]) -> Logits:
    try:
        logits: Logits = session.run(["logits"], {"image": rows})[0]
    except Exception as error:  # ONNX Runtime's own exception types are not public
        raise ExportError(f"ONNX Runtime failed on a batch of {len(rows)}: {' '.join(str(error).split())}") from None
    if len(logits) != len(rows):
        raise ExportError(f"ONNX Runtime answered {len(logits)} rows for a batch of {len(rows)}")
    advance(len(rows))
    return logits
