"""What OpenVINO compiled of one file, and a batch through it."""

from typing import Any

import numpy as np

from resnet_server.engines.api import EngineSpec, Images, Logits
from resnet_server.engines.openvino.library import load_openvino
from resnet_server.engines.session import ModelBytes
from resnet_server.errors import EngineError

ANY_SIZE = 0
Size = tuple[int, bool]
"""Rows of a batch, or ANY_SIZE; and whether it runs on `wide_threads`."""


class CompiledNetwork:
    """A compiled model for each number of rows up to `spec.own_sizes`, and one for any other number.

    One that takes any number of rows plans all layers anew whenever the number changes, which takes a small network as long as several
    images. A lone image on `wide_threads` has a model of its own, too, if small batches have. Each is compiled when it is first needed.
    """

    def __init__(self, spec: EngineSpec, model: ModelBytes) -> None:
        self._spec = spec
        self._name = model.name
        self._openvino: Any = load_openvino()
        self._requests: dict[Size, Any] = {}
        try:
            self._core = self._openvino.Core()
            self._model = self._core.read_model(model.content)
        except Exception as error:  # OpenVINO raises RuntimeError and types of its own for every kind of defect
            raise EngineError(f"{model.name}: OpenVINO cannot read it: {_one_line(error)}") from None

    def prepare(self, rows: int, wide: bool) -> None:
        """Compile what batches of `rows` run on; raise EngineError if that fails."""
        size = self._size(rows, wide)
        if size in self._requests:
            return
        try:
            self._requests[size] = self._compile(*size)
        except Exception as error:  # see above
            raise EngineError(f"{self._name}: OpenVINO cannot compile it for {rows} rows: {_one_line(error)}") from None

    def run(self, slot: Images, rows: int, wide: bool) -> Logits:
        """Compute the first `rows` of UINT8 [>= rows, h, w, channels] to FP32 [rows, classes]; raise EngineError if it fails."""
        self.prepare(rows, wide)
        request = self._requests[self._size(rows, wide)]
        try:
            found = request.infer({"image": slot[:rows]}, share_inputs=True, share_outputs=True)["logits"]
        except Exception as error:  # see above
            raise EngineError(f"OpenVINO failed on {rows} rows: {_one_line(error)}") from None
        logits: Logits = np.array(found, np.float32)  # the next batch of this size overwrites the shared one
        return logits

    def _size(self, rows: int, wide: bool) -> Size:
        wide = wide and bool(self._spec.wide_threads)
        own = min(self._spec.own_sizes, 1) if wide else self._spec.own_sizes
        return rows if rows <= own else ANY_SIZE, wide

    def _compile(self, rows: int, wide: bool) -> Any:
        spec, of = self._spec, self._openvino
        batch = rows or of.Dimension(1, spec.max_rows)
        self._model.reshape({"image": of.PartialShape([batch, spec.height, spec.width, spec.channels])})
        config = configuration(spec.wide_threads if wide else spec.threads)
        return self._core.compile_model(self._model, "CPU", config).create_infer_request()


def configuration(threads: int) -> dict[str, object]:
    """Of a compiled model: one batch at a time on so many threads, which are not bound to cores that other engines use, too.

    Without a hint, OpenVINO computes in bfloat16 where the processor can, and the logits are no longer those of fp32.
    """
    return {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
