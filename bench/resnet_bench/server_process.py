"""The server under test: started for the benchmark, or one that runs already."""

import os
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

from resnet_bench.errors import BenchError

START_SECONDS = 120.0
STOP_SECONDS = 30.0
ANNOUNCEMENT = re.compile(r"resnet-server: listening on grpc=\S+:(\d+) metrics=")


@dataclass(frozen=True)
class Target:
    """A server's address, and its process where it is ours."""

    url: str
    pid: int | None = None

    def cpu_seconds(self) -> float | None:
        """User and system time of the process so far; None where it is not ours or the system does not tell."""
        if self.pid is None:
            return None
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


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
            yield Target(f"127.0.0.1:{_port(process, log)}", process.pid)
        finally:
            _stop(process)


def _port(process: "subprocess.Popen[str]", log: "tempfile._TemporaryFileWrapper[str] | object") -> str:
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    line = process.stdout.readline()
    timer.cancel()
    match = ANNOUNCEMENT.match(line)
    if match is None:
        log.seek(0)  # type: ignore[union-attr]  # a temporary text file
        last = (log.read().strip().splitlines() or ["it said nothing"])[-1]  # type: ignore[union-attr]
        raise BenchError(f"server: it did not start: {last}")
    return match[1]


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
