"""A peer's server as a process: started, awaited, and gone at the end with all its children."""

import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from resnet_bench.limit.processes import usage_of
from resnet_bench.peers.environment import PeerMissingError

START_SECONDS = 120.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.1


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


@contextmanager
def paused(roots: list[int]) -> Iterator[None]:
    """Stop these servers with all their processes meanwhile: some poll when they have nothing to do (LitServe takes a third of a core)."""
    family = [pid for root in roots for pid in usage_of(root)]
    _signal(family, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(family, signal.SIGCONT)


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
    family = usage_of(process.pid)  # workers may have made sessions of their own
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _signal(family, signal.SIGKILL)


def _signal(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
