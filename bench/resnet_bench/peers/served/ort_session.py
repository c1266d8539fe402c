"""The runtime as every peer calls it: ONNX Runtime, or OpenVINO where the environment says so."""

import os
import sys
from typing import Any

OWN_SIZES, MOST_ROWS = 16, 64


def open_session(path: str, threads: int, spinning: bool) -> Any:
    """A CPU session of `threads` threads, with ONNX Runtime's `run`; those without work spin (ONNX Runtime's default) or sleep."""
    return (
        OpenVinoSession(path, threads) if os.environ.get("RESNET_BENCH_RUNTIME") == "openvino" else _onnx_runtime(path, threads, spinning)
    )


def _onnx_runtime(path: str, threads: int, spinning: bool) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class OpenVinoSession:
    """Compiled as our server does: each number of rows up to OWN_SIZES by itself, and one model for any other number up to MOST_ROWS.

    All are compiled before the peer is ready. OpenVINO's threads have no option to spin.
    """

    def __init__(self, path: str, threads: int) -> None:
        sys.modules.setdefault("openvino.tools.ovc", None)  # type: ignore[arg-type]  # its converter, which opens telemetry
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
        _, *image = model.input("image").partial_shape

        def compiled(batch: Any) -> Any:
            model.reshape({"image": openvino.PartialShape([batch, *image])})
            return core.compile_model(model, "CPU", config).create_infer_request()

        self._own = {rows: compiled(rows) for rows in range(1, OWN_SIZES + 1)}
        self._any = compiled(openvino.Dimension(1, MOST_ROWS))

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        """As `InferenceSession.run`, of one input `image`; what is returned is the caller's."""
        request = self._own.get(len(feeds["image"]), self._any)
        found = request.infer(feeds, share_inputs=True, share_outputs=True)
        return [found[name].copy() for name in outputs]
