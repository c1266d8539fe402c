"""A real server in a process of its own, for tests."""

import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 60
ANNOUNCEMENT = re.compile(
    r"resnet-server: listening on grpc=(?:\S+:(\d+)|unix:\S+) metrics=\S+:(\d+)(?: http=\S+:(\d+))?(?: health\S*=\S+)*"
)


@dataclass(frozen=True)
class RunningServer:
    """Addresses and the process."""

    url: str
    metrics_url: str
    http_url: str
    process: "subprocess.Popen[str]"
    log: Path

    def terminate(self) -> int:
        """SIGTERM, and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


def command(repository: Path, *arguments: str) -> list[str]:
    ports = ["--host", "127.0.0.1", "--grpc-port", "0", "--metrics-port", "0", "--http-port", "0"]
    return [sys.executable, "-m", "resnet_server", "serve", "--repository", str(repository), *ports, *arguments]


@contextmanager
def running_server(repository: Path, log: Path, *arguments: str) -> Iterator[RunningServer]:
    """Start a server on free ports and wait until it says that it listens; kill it at the end if it still runs."""
    with log.open("w") as file:
        process = subprocess.Popen(command(repository, *arguments), stdout=subprocess.PIPE, stderr=file, text=True)
    try:
        line = _first_line(process)
        match = ANNOUNCEMENT.fullmatch(line)
        assert match, f"the server said {line!r}: {log.read_text()}"
        yield RunningServer(f"127.0.0.1:{match[1]}", f"http://127.0.0.1:{match[2]}/metrics", f"http://127.0.0.1:{match[3]}", process, log)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(START_SECONDS), "the server said nothing"
    return process.stdout.readline().strip()
