"""Real photographs as calls, a few or as traffic from threads."""

import io
import threading
from typing import Self

from PIL import Image
from resnet_client import Client, ClientError
from resnet_models.sample import load_sample

THREADS = 4
ROWS = 8
# gRPC itself answers CANCELLED to a call that came in the moment the door closed and that no handler has seen.
REFUSALS = ("no server answers", "shutting down", "GOAWAY", "CANCELLED: CANCELLED")


def png(index: int) -> bytes:
    """A bundled photograph."""
    buffer = io.BytesIO()
    Image.fromarray(load_sample().images[index]).save(buffer, "PNG")
    return buffer.getvalue()


def refused(client: Client, model: str, image: bytes) -> str:
    """The status of a call that must fail."""
    try:
        client.classify([image], model=model)
    except ClientError as error:
        return error.status.name
    return "OK"


class Traffic:
    """Calls to every model from threads, until the block ends; `lost` are those that were neither answered nor refused."""

    def __init__(self, url: str) -> None:
        self.answered = self.refused = 0
        self.lost: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, seed)) for seed in range(THREADS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str, seed: int) -> None:
        images = [png(seed + index) for index in range(ROWS)]
        with Client(url, timeout=30) as client:
            models = [info.name for info in client.models()]
            while not self._stop.is_set():
                for model in models:
                    self._call(client, model, images)

    def _call(self, client: Client, model: str, images: list[bytes]) -> None:
        try:
            client.classify(images, model=model)
        except ClientError as error:
            if any(text in str(error) for text in REFUSALS):
                self.refused += 1
            else:
                self.lost.append(str(error))
            self._stop.wait(0.1)
        else:
            self.answered += 1
