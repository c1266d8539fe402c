"""An application of LitServe: `python litserve_app.py FILE PORT WORKERS THREADS SPINNING MAX_BATCH SIZE`.

A body is the images' raw bytes.
"""

import sys
from typing import Annotated, Any

import litserve  # type: ignore[import-not-found]  # it is in the peer's environment
import numpy as np
from fastapi import Body, Response  # type: ignore[import-not-found,unused-ignore]  # the same, or here, too
from ort_session import open_session  # type: ignore[import-not-found]  # it is copied beside this file

OCTETS = "application/octet-stream"


class Application(litserve.LitAPI):  # type: ignore[misc]  # its base is not known here
    """UINT8 [n, SIZE, SIZE, 3] in, FP32 [n, classes] out."""

    def __init__(self, path: str, threads: int, spinning: bool, max_batch: int, size: int) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=0)
        self._path, self._threads, self._spinning, self._size = path, threads, spinning, size

    def setup(self, device: str) -> None:
        """Open the file, once in each worker."""
        self._session: Any = open_session(self._path, self._threads, self._spinning)
        self._rows: list[int] = []

    def decode_request(self, request: Annotated[bytes, Body(media_type=OCTETS)]) -> Any:
        """The images of one request."""
        return np.frombuffer(request, np.uint8).reshape(-1, self._size, self._size, 3)

    def batch(self, inputs: list[Any]) -> Any:
        """Join requests of any number of rows."""
        self._rows = [len(images) for images in inputs]
        return np.concatenate(inputs)

    def predict(self, images: Any) -> Any:
        """Logits of all rows."""
        return self._session.run(["logits"], {"image": images})[0]

    def unbatch(self, logits: Any) -> list[Any]:
        """The logits of each request."""
        return np.split(logits, np.cumsum(self._rows)[:-1])

    def encode_response(self, logits: Any) -> Response:
        """Raw bytes."""
        return Response(np.ascontiguousarray(logits).tobytes(), media_type=OCTETS)


if __name__ == "__main__":
    file = sys.argv[1]
    port, workers, threads, spinning, max_batch, size = map(int, sys.argv[2:])
    application = Application(file, threads, bool(spinning), max_batch, size)
    server = litserve.LitServer(application, accelerator="cpu", workers_per_device=workers)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
