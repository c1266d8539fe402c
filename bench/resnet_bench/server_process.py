"""The server under test: started for the benchmark, or one that runs already."""

import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from resnet_bench import process_tree
from resnet_bench.errors import BenchError

START_SECONDS = 120.0
STOP_SECONDS = 30.0
ANNOUNCEMENT = re.compile(r"resnet-server: listening on grpc=\S+:(\d+) metrics=\S+:(\d+)")


@dataclass(frozen=True)
class Target:
    """A server's address, its process where it is ours, and where its metrics are if it has such."""

    url: str
    pid: int | None = None
    metrics_url: str | None = None

    def cpu_seconds(self) -> float | None:
        """User and system time of the process and its children so far; None where it is not ours or the system does not tell."""
        return None if self.pid is None else process_tree.cpu_seconds(self.pid)

    def peak_memory_bytes(self) -> int | None:
        """Highest resident memory of the process and of each of its children, summed; None as for `cpu_seconds`."""
        return None if self.pid is None else process_tree.peak_memory_bytes(self.pid)


@contextmanager
def started(repository: Path, options: tuple[str, ...]) -> Iterator[Target]:
    """Start our server on free ports and stop it at the end; raise BenchError with its last words if it does not start."""
    if not repository.is_dir():
        raise BenchError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    arguments = ["serve", "--repository", str(repository), "--host", "127.0.0.1", "--grpc-port", "0", "--metrics-port", "0", *options]
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "resnet_server", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True)
        try:
            grpc_port, metrics_port = _ports(process, log)
            yield Target(f"127.0.0.1:{grpc_port}", process.pid, f"http://127.0.0.1:{metrics_port}/metrics")
        finally:
            _stop(process)


def _ports(process: "subprocess.Popen[str]", log: "tempfile._TemporaryFileWrapper[str] | object") -> tuple[str, str]:
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    match = ANNOUNCEMENT.match(line)
    if match is None:
        log.seek(0)  # type: ignore[union-attr]  # a temporary text file
        last = (log.read().strip().splitlines() or ["it said nothing"])[-1]  # type: ignore[union-attr]
        raise BenchError(f"server: it did not start: {last}")
    return match[1], match[2]


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
