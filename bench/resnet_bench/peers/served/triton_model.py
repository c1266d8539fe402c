"""`model.py` of Triton's Python backend: all requests of one call go through ONNX Runtime together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]  # Triton puts it there
from ort_session import open_session  # type: ignore[import-not-found]  # it is copied beside this file


class TritonPythonModel:
    """One instance of the model."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the file that lies beside this one."""
        parameters = json.loads(args["model_config"])["parameters"]
        threads, spinning = (int(parameters[name]["string_value"]) for name in ("threads", "spinning"))
        self._session: Any = open_session(str(Path(__file__).with_name("model.onnx")), threads, bool(spinning))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with the logits of its rows."""
        arrays = [pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        images = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
        logits = self._session.run(["logits"], {"image": images})[0]
        ends = np.cumsum([len(array) for array in arrays])
        parts = np.split(logits, ends[:-1])
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", part)]) for part in parts]
