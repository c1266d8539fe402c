"""Opening an ONNX Runtime session the way this server runs it."""

from pathlib import Path
from typing import Any

import onnxruntime

from resnet_server.engines.device import CPU_PROVIDER, CUDA_PROVIDER, Device
from resnet_server.errors import EngineError

WARNING_SEVERITY, ERROR_SEVERITY = 2, 3


def open_session(path: Path, device: Device, threads: int) -> Any:
    """Open `path` on `device` with `threads` intra-op threads; raise EngineError if it cannot, or fell back to CPU.

    Spinning is off: engines, the event loop and other models share the cores.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERROR_SEVERITY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
    except Exception as error:  # ONNX Runtime raises a type of its own for every kind of defect
        raise EngineError(f"{path.name}: ONNX Runtime cannot load it: {' '.join(str(error).split())}") from None
    used = session.get_providers()[0]
    if used != device.provider:
        raise EngineError(f"{path.name}: asked for {device.provider}, but ONNX Runtime fell back to {used}")
    return session


def _providers(device: Device) -> list[Any]:
    if device.provider == CUDA_PROVIDER:
        # HEURISTIC finds a plan without minutes of search; TF32 breaks fp32 parity by 0.3 in logits (onnxruntime#19288).
        cuda = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
        return [(CUDA_PROVIDER, cuda), CPU_PROVIDER]
    return [CPU_PROVIDER]
