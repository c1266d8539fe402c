"""A session of one batch size, bound to buffers that stay where they are."""

from typing import Any

import numpy as np
import onnxruntime

from resnet_server.engines.api import Images, Logits
from resnet_server.errors import EngineError


class BoundSession:
    """Computes batches of exactly `rows` rows in buffers on `place`, ONNX Runtime's name of a device with its number.

    One copy brings the images there, one brings the logits back. A CUDA graph replays on the addresses it was captured with,
    and belongs to the thread that captured it, so it must be run by one thread only.
    """

    def __init__(self, session: Any, rows: int, height: int, width: int, place: tuple[str, int], channels: int = 3) -> None:
        classes = session.get_outputs()[0].shape[-1]
        allocate = onnxruntime.OrtValue.ortvalue_from_shape_and_type
        self.rows = rows
        self._session = session
        try:
            self._images = allocate([rows, height, width, channels], np.uint8, *place)
            self._logits = allocate([rows, classes], np.float32, *place)
            self._binding = session.io_binding()
            self._binding.bind_ortvalue_input("image", self._images)
            self._binding.bind_ortvalue_output("logits", self._logits)
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise EngineError(f"buffers for {rows} rows on {place[0]}:{place[1]}: {' '.join(str(error).split())}") from None

    def run(self, images: Images) -> Logits:
        """UINT8 [rows, h, w, 3] to FP32 [rows, classes], a copy; raise EngineError if it fails."""
        if len(images) != self.rows:
            raise EngineError(f"{len(images)} images for a session bound to {self.rows} rows")
        try:
            self._images.update_inplace(images)
            self._binding.synchronize_inputs()  # the copy is on another stream than the computation
            self._session.run_with_iobinding(self._binding)
            return np.array(self._logits.numpy())
        except Exception as error:  # ONNX Runtime's own exception types are not public
            raise EngineError(f"ONNX Runtime failed on {self.rows} rows: {' '.join(str(error).split())}") from None
