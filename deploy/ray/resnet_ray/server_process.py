"""A server of ours as the child of a Ray worker."""

import ctypes
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from typing import NamedTuple

import grpc
from prometheus_client.parser import text_string_to_metric_families

ANNOUNCEMENT = re.compile(r"resnet-server: listening on grpc=(\S+):(\d+) metrics=(\S+):(\d+)(?: .*)?")
SERVING = b"\x08\x01"
PR_SET_PDEATHSIG = 1


class ServerProcess:
    """Starts a server and returns once it listens; raises RuntimeError with its last words if it ends before.

    The kernel ends it (SIGTERM, and so a drain) with the worker that started it, however that ends.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        command = [sys.executable, "-m", "resnet_server", "serve", *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=_end_with_parent)
        line = self._process.stdout.readline().strip() if self._process.stdout else ""
        match = ANNOUNCEMENT.fullmatch(line)
        if match is None:
            self.stop(5)
            raise RuntimeError(
                f"resnet-server ended with status {self._process.returncode} before it listened; its log is above: {line[:200]}"
            )
        self.address = f"{match[1]}:{match[2]}"
        self._metrics = f"http://{match[3]}:{match[4]}/metrics"

    def check(self, seconds: float = 3.0) -> None:
        """Raise RuntimeError unless it answers SERVING."""
        if (status := self._process.poll()) is not None:
            raise RuntimeError(f"resnet-server ended with status {status}")
        with grpc.insecure_channel(self.address) as channel:
            try:
                answer = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)(b"", timeout=seconds)
            except grpc.RpcError as error:
                raise RuntimeError(f"resnet-server at {self.address}: {error}") from None
        if answer != SERVING:
            raise RuntimeError(f"resnet-server at {self.address}: not serving")

    def load(self) -> "Load":
        """Its load since it started; raises OSError where it does not answer."""
        with urllib.request.urlopen(self._metrics, timeout=2) as page:  # noqa: S310  # our own child
            return load_of(page.read().decode())

    def stop(self, seconds: float = 40.0) -> None:
        """Drain, and wait for the end."""
        with self._process:  # closes its pipe
            self._process.send_signal(signal.SIGTERM)  # nothing happens where it has ended
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()


class Load(NamedTuple):
    """By the throughput of the plans: seconds of computing that wait, and seconds computed since the start."""

    waiting: float
    computed: float


def load_of(page: str) -> Load:
    """The load by a page of the server's metrics: rows by the images a second of each model's plan, as the Prometheus rules have it."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            key = tuple(sample.labels.get(label, "") for label in ("model", "version", "precision"))
            found.setdefault(sample.name, {})[key] = sample.value
    rates = {key: rate for key, rate in found.get("resnet_plan_images_per_second", {}).items() if rate > 0}

    def seconds(metric: str) -> float:
        return sum(rows / rates[key] for key, rows in found.get(metric, {}).items() if key in rates)

    return Load(seconds("resnet_queue_rows"), seconds("resnet_images_total"))


def _end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
