"""Closed-loop load from `h2load`, the C++ generator of nghttp2 (Debian: nghttp2-client): a few µs of CPU a call.

h2load posts one body again and again. It sees the HTTP status but not gRPC's trailers, where an error is 200 too; but an
error has no body, so a run holds only if every answer counted brought all its bytes.
"""

import re
import resource
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnet_bench.errors import BenchError

GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
OCTETS_HEADERS = ("content-type: application/octet-stream",)
MOST_CONNECTIONS = 4  # as a handful of clients would have; more only cost the server
GRACE_SECONDS = 60.0
NOTHING_IN_TIME = "void: no request was answered in time; measure longer (--duration) or send less"
LEAD_SECONDS, TRAIL_SECONDS = 0.5, 0.1
"""Sent before and after the time that is counted: a closed loop that starts loses about half of what it has in flight."""

COUNTS = re.compile(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
STATUSES = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")
TRAFFIC = re.compile(r"traffic: .*\((\d+)\) data")
FINISHED = re.compile(r"finished in ([\d.]+)(us|ms|s|m|h)")
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Drive:
    """What to send where: the file `body` posted to `url` with `in_flight` requests open at any time.

    HTTP/2 has them on up to 4 connections, as evenly as they divide; HTTP/1.1 can have one on each connection.
    """

    url: str
    body: Path
    in_flight: int
    headers: tuple[str, ...] = GRPC_HEADERS
    http1: bool = False

    @property
    def connections(self) -> int:
        """The largest number up to 4 that divides `in_flight`; all of it with HTTP/1.1."""
        if self.http1:
            return self.in_flight
        return next(n for n in range(MOST_CONNECTIONS, 0, -1) if self.in_flight % n == 0)

    def arguments(self) -> list[str]:
        """h2load's, but for how long to go on."""
        headers = [part for header in self.headers for part in ("-H", header)]
        streams = self.in_flight // self.connections
        protocol = ["--h1"] if self.http1 else []
        return [*protocol, "-c", str(self.connections), "-m", str(streams), "-d", str(self.body), *headers, self.url]


@dataclass(frozen=True)
class Summary:
    """What h2load prints: requests by outcome, bytes of all bodies, and seconds from the first request to the end."""

    succeeded: int
    failed: int
    body_bytes: int
    seconds: float


@dataclass(frozen=True)
class Sample:
    """A run that holds: all calls answered, and the generator's CPU seconds for them.

    `latencies`, in microseconds, are of those answered in the `seconds` that count, when the loop had settled.
    """

    calls: int
    seconds: float
    latencies: NDArray[np.int64]
    cpu_seconds: float

    @property
    def counted(self) -> int:
        """Calls answered in the time that counts."""
        return len(self.latencies)

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.counted / self.seconds

    def latency_ms(self, percentile: float) -> float:
        """A percentile of latency in milliseconds."""
        return float(np.percentile(self.latencies, percentile)) / 1e3

    @property
    def mean_ms(self) -> float:
        """Mean latency in milliseconds."""
        return float(self.latencies.mean()) / 1e3


def require_h2load() -> str:
    """The path of h2load; raise BenchError naming the package where there is none."""
    path = shutil.which("h2load")
    if path is None:
        raise BenchError("h2load: not found on this machine; install the package nghttp2-client (apt-get install nghttp2-client)")
    return path


def warm_up(drive: Drive, seconds: float) -> None:
    """Send for `seconds` and count nothing."""
    _run(drive, [*_for(seconds)], seconds)


def measure(drive: Drive, answer_bytes: int, seconds: float) -> Sample:
    """Count for `seconds` of a loop that has settled; raise BenchError unless every answer came whole (`answer_bytes` of body)."""
    with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
        log = Path(folder) / "requests"
        before = _children_seconds()
        whole = LEAD_SECONDS + seconds + TRAIL_SECONDS
        summary = parse_summary(_run(drive, [*_for(whole), f"--log-file={log}"], whole))
        cpu = _children_seconds() - before
        check_summary(summary, drive.in_flight, answer_bytes)
        latencies = settled(parse_log(log.read_text(encoding="ascii")), seconds)
    if not latencies.size:
        raise BenchError(NOTHING_IN_TIME)
    return Sample(summary.succeeded, seconds, latencies, cpu)


def send(drive: Drive, answer_bytes: int, calls: int, limit_seconds: float) -> Summary:
    """Send `calls` requests and wait for all answers; raise BenchError unless all came whole within the limit."""
    summary = parse_summary(_run(drive, ["-n", str(calls)], limit_seconds))
    check_summary(summary, 0, answer_bytes)
    return summary


def parse_summary(text: str) -> Summary:
    """Read h2load's closing lines; raise BenchError if they are not there."""
    counts, statuses, traffic, finished = (pattern.search(text) for pattern in (COUNTS, STATUSES, TRAFFIC, FINISHED))
    if not (counts and statuses and traffic and finished):
        raise BenchError(f"h2load: it printed no summary; its last line is {_last_line(text)!r}")
    succeeded, *bad = (int(count) for count in counts.groups())
    refused = sum(int(status) for status in statuses.groups()[1:])
    return Summary(succeeded, max(sum(bad), refused), int(traffic[1]), float(finished[1]) * UNITS[finished[2]])


def parse_log(text: str) -> NDArray[np.int64]:
    """[n, 2]: start and latency in microseconds, from a log of `start, status, microseconds` lines; only status 200 counts."""
    if not text:
        return np.empty((0, 2), np.int64)
    table: NDArray[np.int64] = np.array(text.split(), dtype=np.int64).reshape(-1, 3)
    answered: NDArray[np.int64] = table[table[:, 1] == 200][:, (0, 2)]
    return answered


def settled(log: NDArray[np.int64], seconds: float) -> NDArray[np.int64]:
    """Latencies of those answered within `seconds`, from LEAD_SECONDS after the first started on."""
    if not log.size:
        return np.empty(0, np.int64)
    begin = log[:, 0].min() + round(1e6 * LEAD_SECONDS)
    ends = log.sum(1)
    counted: NDArray[np.int64] = log[(ends >= begin) & (ends < begin + round(1e6 * seconds)), 1]
    return counted


def check_summary(summary: Summary, in_flight: int, answer_bytes: int) -> None:
    """Raise BenchError, saying what is wrong, if the run is void.

    At the end of a timed run, up to `in_flight` answers may have brought their body but not yet their trailers.
    """
    if summary.failed:
        raise BenchError(f"void: {summary.failed} requests failed beside {summary.succeeded} that succeeded")
    if not summary.succeeded:
        raise BenchError(NOTHING_IN_TIME)
    least = summary.succeeded * answer_bytes
    if not least <= summary.body_bytes <= least + in_flight * answer_bytes:
        raise BenchError(
            f"void: {summary.succeeded:,} answers of {answer_bytes} bytes brought {summary.body_bytes:,} bytes; expected {least:,}: "
            "some were errors"
        )


def _run(drive: Drive, how_long: list[str], seconds: float) -> str:
    command = [require_h2load(), *how_long, *drive.arguments()]
    try:
        # A session of its own: Ctrl-C reaches the benchmark, which saves what it has; `run` then kills h2load.
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, start_new_session=True, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"void: {drive.url}: h2load did not end within {seconds + GRACE_SECONDS:g} s") from None
    if done.returncode:
        raise BenchError(f"h2load: it failed with status {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def _for(seconds: float) -> tuple[str, str]:
    return "-D", f"{max(1, round(1000 * seconds))}ms"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
