"""ONNX Runtime as every peer calls it."""

from typing import Any

import onnxruntime


def open_session(path: str, threads: int) -> Any:
    """A CPU session of `threads` intra-op threads that do not spin, since cores are shared; 0 leaves ONNX Runtime its defaults."""
    options = onnxruntime.SessionOptions()
    if threads:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
