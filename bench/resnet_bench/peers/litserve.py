"""Lightning's LitServe, which speaks HTTP only: the images' raw bytes in, the logits' raw bytes out."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_bench.errors import BenchError
from resnet_bench.h2load import OCTETS_HEADERS, Drive
from resnet_bench.limit.call import ANSWER_SECONDS, Call
from resnet_bench.limit.processes import free_port
from resnet_bench.peers.environment import Environment
from resnet_bench.peers.peer import Setting, Standing, place
from resnet_bench.peers.process import running

PACKAGES = ("litserve==0.2.19",)


@dataclass(frozen=True)
class HttpEndpoint:
    """A LitServe on this machine."""

    name: str
    port: int

    def ask(self, call: Call) -> tuple[NDArray[np.float32], int]:
        """Through http.client; raise BenchError if it does not answer with 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("POST", "/predict", self.body(call), dict(header.split(": ") for header in OCTETS_HEADERS))
            reply = connection.getresponse()
            data = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"void: {self.name}: a call failed: {error}") from None
        finally:
            connection.close()
        if reply.status != 200:
            raise BenchError(f"void: {self.name}: HTTP {reply.status}: {data[:200].decode(errors='replace')}")
        return np.frombuffer(data, np.float32).reshape(call.rows, -1), len(data)

    def body(self, call: Call) -> bytes:
        """The images' bytes."""
        return call.images.tobytes()

    def drive(self, body: Path, in_flight: int) -> Drive:
        """HTTP/1.1, a connection for each call in flight."""
        return Drive(f"http://127.0.0.1:{self.port}/predict", body, in_flight, OCTETS_HEADERS, http1=True)


@contextmanager
def start(setting: Setting) -> Iterator[Standing]:
    """One worker a core, one thread each, batching without delay."""
    environment = Environment(setting.environments, "litserve", PACKAGES)
    versions = environment.ensure(setting.install)
    folder = setting.folder / "litserve"
    program = place(folder, "litserve_app.py", "litserve_app.py")
    port = free_port()
    size = setting.published.manifest.input.height
    numbers = (port, setting.cores, setting.max_batch, size)
    command = [str(environment.python), str(program), str(setting.published.path.resolve()), *(str(number) for number in numbers)]
    with running("litserve", command, f"http://127.0.0.1:{port}/health", folder, {}) as pid:
        text = f"LitServe {versions['litserve']}, HTTP/1.1 with raw bytes, {setting.cores} workers; ORT {versions['onnxruntime']}"
        yield Standing(HttpEndpoint("litserve", port), pid, setting.published.precision, text)
