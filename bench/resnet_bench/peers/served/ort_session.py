"""ONNX Runtime as every peer calls it."""

from typing import Any

import onnxruntime


def open_session(path: str, threads: int, spinning: bool) -> Any:
    """A CPU session of `threads` intra-op threads; those without work spin (ONNX Runtime's default) or sleep."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
