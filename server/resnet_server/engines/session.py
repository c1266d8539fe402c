"""Opening an ONNX Runtime session the way this server runs it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from resnet_server.engines.api import CPU_PROVIDER
from resnet_server.errors import EngineError

ERROR_SEVERITY = 3

Provider = tuple[str, dict[str, str]]
CPU: Provider = (CPU_PROVIDER, {})


@dataclass(frozen=True)
class ModelBytes:
    """A file as it was read once: what its digest says is what is opened."""

    name: str
    content: bytes
    sha256: str


def read_model(path: Path, sha256: str = "") -> ModelBytes:
    """Read a file whole; raise EngineError where it cannot be read, or its digest is another than `sha256` (empty: any)."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise EngineError(f"{path.name}: it cannot be read: {error.strerror}") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256:
        raise EngineError(f"{path.name}: its sha256 is {found[:12]}..., expected {sha256[:12]}...: it was changed after it was certified")
    return ModelBytes(path.name, content, found)


def open_session(model: ModelBytes, providers: Sequence[Provider], threads: int, spinning: bool = False) -> Any:
    """Open a model on the first of `providers`, with `threads` intra-op threads on the CPU.

    The others take the nodes that the first cannot compute; where CPU is not among them, none may be left for it. Raises
    EngineError if the file does not open so, or if ONNX Runtime fell back to another provider. Threads do not spin where cores
    are shared by engines, event loop and other models; `spinning` is for one that has the machine to itself, and ends with the run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = ERROR_SEVERITY
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(spinning)))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if CPU not in providers:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    there = [provider for provider in providers if provider[0] in onnxruntime.get_available_providers()]
    try:
        # its own fallback would print to stdout and go on, on the CPU
        session = onnxruntime.InferenceSession(model.content, options, providers=there, enable_fallback=0)
    except Exception as error:  # ONNX Runtime raises a type of its own for every kind of defect
        raise EngineError(f"{model.name}: ONNX Runtime cannot load it: {' '.join(str(error).split())}") from None
    used = session.get_providers()[0]
    if used != providers[0][0]:
        raise EngineError(f"{model.name}: asked for {providers[0][0]}, but ONNX Runtime fell back to {used}")
    session.disable_fallback()
    return session
