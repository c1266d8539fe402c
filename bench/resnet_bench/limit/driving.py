"""One checked run of h2load against a gRPC server: the answer is right before and after, and every answer came whole."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnet_bench.errors import BenchError
from resnet_bench.h2load import Drive, Sample, measure, warm_up
from resnet_bench.limit.call import METHOD, Call, ask_grpc, framed

WARM_UP_SECONDS = 0.5
FEWEST_FOR_P99 = 100


class Endpoint(Protocol):
    """Where calls go, and how."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    def ask(self, call: Call) -> tuple[NDArray[np.float32], int]:
        """Send the call once; the logits, and the bytes of the answer's body."""
        ...

    def body(self, call: Call) -> bytes:
        """What is posted."""
        ...

    def drive(self, body: Path, in_flight: int) -> Drive:
        """How h2load is to post it."""
        ...


@dataclass(frozen=True)
class GrpcEndpoint:
    """A server of the Open Inference Protocol at `url` (host:port)."""

    name: str
    url: str

    def ask(self, call: Call) -> tuple[NDArray[np.float32], int]:
        """Through grpcio."""
        return ask_grpc(self.url, call)

    def body(self, call: Call) -> bytes:
        """The length-prefixed message."""
        return framed(call.message)

    def drive(self, body: Path, in_flight: int) -> Drive:
        """HTTP/2."""
        return Drive(f"http://{self.url}{METHOD}", body, in_flight)


@contextmanager
def body_file(endpoint: Endpoint, call: Call) -> Iterator[Path]:
    """The call's body as a file for h2load."""
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        path = Path(folder) / "body"
        path.write_bytes(endpoint.body(call))
        yield path


def run(endpoint: Endpoint, call: Call, in_flight: int, seconds: float, around: Callable[[], None] = lambda: None) -> Sample:
    """Measure for `seconds` after a warm-up, calling `around` right before and right after; raise BenchError if it is void."""
    with body_file(endpoint, call) as body:
        drive = endpoint.drive(body, in_flight)
        size = ask(endpoint, call)
        warm_up(drive, WARM_UP_SECONDS)
        around()
        try:
            sample = measure(drive, size, seconds)
        except BenchError as error:
            raise BenchError(f"{error} ({endpoint.name}: {call.model}, {in_flight} in flight, {call.rows} rows)") from None
        around()
        ask(endpoint, call)
    return sample


def ask(endpoint: Endpoint, call: Call) -> int:
    """Send the call once and check its answer; the bytes of the answer's body."""
    logits, size = endpoint.ask(call)
    call.check(logits, endpoint.name)
    return size


def p50_ms(sample: Sample, in_flight: int) -> float | None:
    """The median latency; None where the run ended before most calls that were open had been answered."""
    return sample.latency_ms(50) if sample.counted >= 2 * in_flight else None


def p99_ms(sample: Sample, in_flight: int) -> float | None:
    """The 99th percentile; None where there are too few calls for one."""
    return sample.latency_ms(99) if sample.counted >= max(2 * in_flight, FEWEST_FOR_P99) else None
