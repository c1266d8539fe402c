"""The server under test: started for the benchmark or running already; its processes, and its metrics."""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import grpc
import psutil
from prometheus_client.parser import text_string_to_metric_families

from resnet_bench.access import PLAIN, Access
from resnet_bench.errors import BenchError
from resnet_bench.machine import cpu_of
from resnet_bench.sample import OK, ServerTimes

START_SECONDS, STOP_SECONDS, SCRAPE_SECONDS = 120.0, 30.0, 10.0
ANNOUNCEMENT = re.compile(r"resnet-server: listening on grpc=\S+:(\d+) metrics=\S+:(\d+)")
METHOD = "ModelInfer"
CANCELLED = "CANCELED"  # as Triton spells the reason of a failure
ROLES = {"resnet_server.engines": "engine", "resnet_server.frontends": "front end", "resnet_server.endpoints.decoding": "decoder"}
"""Of our server's processes, by the module that they run."""


@dataclass(frozen=True)
class Usage:
    """CPU seconds so far and proportional set size in bytes (pages that several processes share count once) of one process."""

    name: str
    cpu_seconds: float
    pss_bytes: int


@dataclass(frozen=True)
class Target:
    """Where calls go. `pid` is its process where it is ours; `metrics_url` where its Prometheus metrics are, if it has such.

    `failures` names the counters of calls that it answered with an error; `http1` is a server that takes raw bytes posted to `path`.

    `access`: TLS and a token, where it wants them.
    """

    name: str
    url: str
    pid: int | None = None
    metrics_url: str | None = None
    setup: str = ""
    failures: tuple[str, ...] = ()
    path: str = ""
    http1: bool = False
    access: Access = PLAIN

    def usage(self, memory: bool = True) -> dict[int, Usage]:
        """Of the server's process and all below it, by pid; empty where it is not ours or has ended. Memory takes a while to add up."""
        found: dict[int, Usage] = {}
        if self.pid is None:
            return found
        with suppress(psutil.Error):
            root = psutil.Process(self.pid)
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    found[process.pid] = Usage(_name(process, self.pid), cpu_of(process), _pss(process) if memory else 0)
        return found

    def cpu_seconds(self) -> float:
        """Of all its processes so far; 0 where it is not ours."""
        with suppress(psutil.Error):
            root = psutil.Process(self.pid) if self.pid is not None else None
            return 0.0 if root is None else sum(_cpu(process) for process in [root, *root.children(recursive=True)])
        return 0.0

    def counts(self, model: str, version: str = "") -> "Counts | None":
        """What its metrics say now; None where it has none."""
        return None if self.metrics_url is None else scrape(self.metrics_url, model, version)


def _name(process: psutil.Process, root: int) -> str:
    if process.pid == root:
        return "server"
    command = " ".join(process.cmdline())
    kind = next((role for module, role in ROLES.items() if module in command), process.name())
    return f"{kind} {process.pid}"


def _cpu(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        return cpu_of(process)
    return 0.0


def _pss(process: psutil.Process) -> int:
    memory = process.memory_full_info()
    return int(getattr(memory, "pss", memory.uss))


@dataclass
class Counts:
    """Sums of a server's metrics since it started, or between two looks, and batches by the upper end of their bucket of rows.

    `sums` has Prometheus's sample names, and `ok` and `failed` for ModelInfer calls by their status.
    """

    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    batch_rows: Counter[float] = field(default_factory=Counter)

    def since(self, before: "Counts") -> "Counts":
        """What came after `before`."""
        sums = {name: value - before.sums.get(name, 0.0) for name, value in self.sums.items()}
        rows = {bucket: count - before.batch_rows[bucket] for bucket, count in self.batch_rows.items()}
        return Counts(defaultdict(float, sums), Counter(rows))

    def mean(self, metric: str) -> float:
        """Of a histogram or summary; 0 of nothing."""
        count = self.sums[f"{metric}_count"]
        return self.sums[f"{metric}_sum"] / count if count else 0.0

    def times(self) -> ServerTimes | None:
        """As a sample keeps them; None where no call of a resnet-server was counted."""
        if not self.sums["resnet_request_seconds_count"]:
            return None
        queue, total, batch = (1e3 * self.mean(f"resnet_{name}_seconds") for name in ("queue", "request", "compute"))
        rows = {"more" if bucket == float("inf") else f"{bucket:g}": int(count) for bucket, count in sorted(self.batch_rows.items())}
        return ServerTimes(queue, total, batch, rows)


def scrape(url: str, model: str, version: str = "") -> Counts:
    """Read the metrics of one model; raises BenchError where they cannot be read."""
    try:
        with urllib.request.urlopen(url, timeout=SCRAPE_SECONDS) as reply:  # noqa: S310  # the user says where
            return parsed(reply.read().decode(), model, version)
    except (OSError, ValueError) as error:
        raise BenchError(f"metrics-url: {url} cannot be read: {getattr(error, 'reason', error)}") from None


def parsed(text: str, model: str, version: str = "") -> Counts:
    """Of Prometheus's text format; an empty version sums over all. Only ModelInfer counts where methods are told apart.

    Calls that the caller gave up do not count: those in flight when a closed loop ends are such.
    """
    found, cumulative = Counts(), Counter[float]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            named = labels.get("model", labels.get("model_name", model))
            if named != model or version not in ("", labels.get("version", version)) or labels.get("method", METHOD) != METHOD:
                continue
            if labels.get("reason") == CANCELLED:
                continue
            if sample.name == "resnet_requests_total":
                found.sums["ok" if labels.get("status") == OK else "failed"] += sample.value
            if sample.name == "resnet_batch_rows_bucket":
                cumulative[float(labels["le"])] += int(sample.value)
            elif "le" not in labels and not (sample.name.startswith("resnet_request_seconds") and labels.get("status", OK) != OK):
                found.sums[sample.name] += sample.value
    below = 0
    for bucket, count in sorted(cumulative.items()):
        found.batch_rows[bucket] = count - below
        below = count
    return found


@contextmanager
def started(repository: Path, options: Sequence[str]) -> Iterator[Target]:
    """Start our server on free ports and stop it at the end; raise BenchError with its last words if it does not start.

    It computes as what it is compared with does, with ONNX Runtime, unless `options` or the environment say otherwise.
    """
    if not repository.is_dir():
        raise BenchError(f"repository: {repository} is not a folder; `resnet-export publish` makes one")
    ports = ["--grpc-port", "0", "--metrics-port", "0", "--http-port", "off"]
    arguments = ["serve", "--repository", str(repository), "--host", "127.0.0.1", *ports, *options]
    with tempfile.TemporaryFile("w+") as log:
        command = [sys.executable, "-m", "resnet_server", *arguments]
        environment = {"RESNET_SERVER_RUNTIME": "onnxruntime", **os.environ}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True, env=environment)
        try:
            grpc_port, metrics_port = _ports(process, log)
            setup = " ".join(options) or "as it starts by default"
            yield Target("ours", f"127.0.0.1:{grpc_port}", process.pid, f"http://127.0.0.1:{metrics_port}/metrics", setup)
        finally:
            _stop(process)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ports(process: "subprocess.Popen[str]", log: IO[str]) -> tuple[str, str]:
    assert process.stdout is not None  # noqa: S101  # a pipe was asked for
    timer = threading.Timer(START_SECONDS, process.kill)
    timer.start()
    try:
        line = process.stdout.readline()
    finally:
        timer.cancel()
    match = ANNOUNCEMENT.match(line)
    if match is None:
        log.seek(0)
        last = (log.read().strip().splitlines() or ["it said nothing"])[-1]
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


def status_of(error: Exception) -> str:
    """The gRPC status of a failed call; the stubs do not know that the error is the call."""
    return error.code().name if isinstance(error, grpc.Call) else "UNKNOWN"


def details_of(error: Exception) -> str:
    """Status and what the server said, on one line."""
    details = error.details() if isinstance(error, grpc.Call) else ""
    return f"{status_of(error)}: {' '.join((details or '').split())}"
