"""What every peer is given, and how its server runs as a process: started, awaited, and gone at the end with all its children."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

from resnet_bench.peers.environment import Environment, PeerMissingError
from resnet_bench.published import Published
from resnet_bench.target import Target

START_SECONDS, STOP_SECONDS, POLL_SECONDS = 120.0, 15.0, 0.1
SERVED = Path(__file__).with_name("served")
SESSION = "ort_session.py"


@dataclass(frozen=True)
class Setting:
    """One file to serve, a folder to work in, and the machine: everything that all peers share."""

    published: Published
    folder: Path
    environments: Path
    install: bool
    cores: int
    max_batch: int
    rows_at_once: int
    runtime: str = "onnxruntime"

    def environment(self, name: str, packages: tuple[str, ...]) -> Environment:
        """Of a peer, one for each runtime. Raises PeerMissingError where the runtime is not installed here."""
        if self.runtime == "onnxruntime":
            return Environment(self.environments, name, packages)
        try:
            pinned = f"{self.runtime}=={version(self.runtime)}"
        except PackageNotFoundError:
            raise PeerMissingError(f"{name}: {self.runtime} is not installed here, so that its version is not known") from None
        return Environment(self.environments, f"{name}-{self.runtime}", (*packages, pinned))

    @property
    def named(self) -> str:
        """The runtime as the setup of a peer names it: where it is not ONNX Runtime."""
        return "" if self.runtime == "onnxruntime" else f", {self.runtime}"

    @property
    def variables(self) -> dict[str, str]:
        """For a peer's process: which runtime its program opens."""
        return {"RESNET_BENCH_RUNTIME": self.runtime}


@dataclass(frozen=True)
class Layout:
    """How a peer uses the cores: workers (instances, processes) of so many threads; idle threads spin or sleep."""

    workers: int
    threads: int
    spinning: bool

    def __str__(self) -> str:
        return f"{self.workers} x {self.threads} thread{'s' if self.threads > 1 else ''}{', spinning' if self.spinning else ''}"


@dataclass(frozen=True)
class Contender:
    """A server in one configuration; several of one `name` differ in `setup`, and the best of them counts under each load."""

    name: str
    setup: str
    start: Callable[[Setting], AbstractContextManager[Target]]


def place(folder: Path, program: str, name: str) -> Path:
    """Copy one of the programs in `served`, and the session it uses, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(SERVED / SESSION, folder / SESSION)
    return Path(shutil.copyfile(SERVED / program, folder / name))


@contextmanager
def running(name: str, command: list[str], ready_url: str, folder: Path, variables: Mapping[str, str]) -> Iterator[int]:
    """Start `command` in `folder`, wait until `ready_url` answers 200, and give its pid.

    Raises PeerMissingError with the server's last words if it ends or is not ready in time.
    """
    environment = {**os.environ, "PYTHONPATH": "", **variables}  # our own packages are none of a peer's business
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            _await(name, process, ready_url, log)
            yield process.pid
        finally:
            _stop(process)


def _await(name: str, process: "subprocess.Popen[bytes]", url: str, log: IO[str]) -> None:
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        if process.poll() is not None:
            raise PeerMissingError(f"{name}: it does not start: {_last_words(log)}")
        if _answers(url):
            return
        time.sleep(POLL_SECONDS)
    raise PeerMissingError(f"{name}: it is not ready after {START_SECONDS:g} s: {_last_words(log)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310  # an address of ours
            return int(reply.status) == 200
    except (urllib.error.URLError, OSError):
        return False


def _last_words(log: IO[str]) -> str:
    log.seek(0)
    lines = [line.strip() for line in log.read().splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it said nothing"])[-1][:500]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    family = list(Target("", "", process.pid).usage(memory=False))  # workers may have made sessions of their own
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    send_all(family, signal.SIGKILL)


def send_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
