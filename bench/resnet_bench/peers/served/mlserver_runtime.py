"""A custom runtime of MLServer: one request, or what its adaptive batching joined, through ONNX Runtime."""

from typing import Any

from mlserver import MLModel  # type: ignore[import-not-found]  # it is in the peer's environment
from mlserver.codecs import NumpyCodec  # type: ignore[import-not-found]  # the same
from mlserver.types import InferenceRequest, InferenceResponse  # type: ignore[import-not-found]  # the same
from ort_session import open_session  # type: ignore[import-not-found]  # it is copied beside this file


class Runtime(MLModel):  # type: ignore[misc]  # its base is not known here
    """The file named by `parameters.uri`, with `parameters.extra.threads` and `.spinning`."""

    async def load(self) -> bool:
        """Open the file."""
        parameters = self.settings.parameters
        self._session: Any = open_session(parameters.uri, parameters.extra["threads"], parameters.extra["spinning"])
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Logits of all rows."""
        images = NumpyCodec.decode_input(payload.inputs[0])
        logits = self._session.run(["logits"], {"image": images})[0]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", logits)])
