"""Load from `h2load`, the C++ generator of nghttp2 (Debian: nghttp2-client): a few µs of CPU a call.

h2load posts one body again and again. It sees the HTTP status but not gRPC's trailers, where an error is 200 too; but an error has no
body. A closed loop holds only if every answer counted brought all its bytes, and if the server, where it counts errors, counted none: at
the end of a timed run up to as many answers as were in flight may have brought a body without a trailer, behind which errors could hide.
In an open loop refusals are allowed: the bytes of all bodies say how many calls were answered, but not which. So what is said of the
answers is the least favourable that fits: every call that took too long was one of them, and they are those that took longest.
"""

import http.client
import re
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from numpy.typing import NDArray

from resnet_bench.drivers.api import Load, Observer, sample_of
from resnet_bench.drivers.open_loop import OPTIONS
from resnet_bench.errors import BenchError
from resnet_bench.requests import METHOD, Requests, framed, logits_of
from resnet_bench.sample import OK, UNANSWERED, Sample, percentiles
from resnet_bench.target import Target, details_of

GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
OCTETS = "application/octet-stream"
OCTETS_HEADERS = (f"content-type: {OCTETS}",)
MOST_CONNECTIONS = 4  # as a handful of clients would have; more only cost the server
GRACE_SECONDS, ANSWER_SECONDS = 60.0, 120.0
LEAD_SECONDS, LEAD_CALLS, TRAIL_SECONDS = 0.5, 3, 0.1
"""Sent before and after the time that is counted: a closed loop that starts loses about half of what it has in flight, so it settles
for half a second, or for three times the latency that the warm-up saw."""
MOST_LEAD_SECONDS = 60.0
MOST_WAITING = 10_000  # calls in flight of an open loop on a connection: were it reached, calls would leave late
MOST_LATE = 0.01  # of the calls of an open loop may be missing at its end
TRIES, PAUSE_SECONDS = 20, 0.1  # of a call with a deadline, for which a server that was just flooded may need a moment
REFUSED = "REFUSED"
"""As an outcome: it brought no answer."""

COUNTS = re.compile(r"requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout")
STATUSES = re.compile(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx")
TRAFFIC = re.compile(r"traffic: .*\((\d+)\) data")


@dataclass(frozen=True)
class Summary:
    """What h2load prints: requests by outcome, and bytes of all bodies."""

    succeeded: int
    failed: int
    body_bytes: int


class H2load:
    """The driver."""

    name = "h2load"

    def __init__(self) -> None:
        self._program = require_h2load()

    def run(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """As every driver. A run that does not hold is a void sample."""
        return self._open_loop(target, requests, load, observer) if load.open_loop else self._closed_loop(target, requests, load, observer)

    def _closed_loop(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        size = ask(target, requests)
        with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
            body, log = Path(folder) / "body", Path(folder) / "requests"
            body.write_bytes(requests.images.tobytes() if target.http1 and requests.images is not None else framed(requests.data[0]))
            command = [self._program, f"--log-file={log}", *arguments(target, body, load.concurrency)]
            lead = self._warm_up(command, log, load)
            log.unlink(missing_ok=True)
            before, failures = _children_seconds(), _failures(target, load)
            observer.begin()
            whole = lead + load.seconds + TRAIL_SECONDS
            text = _run(command, whole)
            observer.end()
            cpu, failed = _children_seconds() - before, _failures(target, load) - failures
            latencies = settled(parse_log(log.read_text(encoding="ascii")), lead, load.seconds)
        summary = parse_summary(text)
        void = void_reason(summary, load.concurrency, size, len(latencies)) or (failed and f"the server counted {failed:g} errors") or ""
        ask(target, requests)
        return replace(measured(load, latencies, summary, cpu / whole, void), watched=summary.succeeded)

    def _open_loop(self, target: Target, requests: Requests, load: Load, observer: Observer) -> Sample:
        """All of the second run counts; the first warms up."""
        size = ask_patiently(target, requests)
        with tempfile.TemporaryDirectory(prefix="resnet-bench-") as folder:
            body, log = Path(folder) / "body", Path(folder) / "requests"
            body.write_bytes(framed(requests.data[0]))
            command = [self._program, f"--log-file={log}"]
            _call([*command, *open_arguments(target, body, load.rate, load.warm_up)], load.warm_up)
            log.unlink(missing_ok=True)
            before, began = _children_seconds(), time.monotonic()
            observer.begin()
            printed = _call([*command, *open_arguments(target, body, load.rate, load.seconds)], load.seconds)
            observer.end()
            cpu, took = _children_seconds() - before, time.monotonic() - began
            calls = parse_log(log.read_text(encoding="ascii"))
        ask_patiently(target, requests)
        return flooded(load, calls, parse_summary(printed), size, cpu / took)

    def _warm_up(self, command: list[str], log: Path, load: Load) -> float:
        """Send for a while; how long the next run is to settle, in seconds."""
        _run(command, load.warm_up)
        seen = parse_log(log.read_text(encoding="ascii"))
        mean = 1e-6 * float(seen[:, 1].mean()) if len(seen) else load.warm_up
        return min(MOST_LEAD_SECONDS, max(LEAD_SECONDS, LEAD_CALLS * mean))


def measured(load: Load, latencies: NDArray[np.int64], summary: Summary, cpu: float, void: str) -> Sample:
    """The sample; `latencies` in microseconds of those answered in the counted time, `cpu` in cores."""
    count = len(latencies)
    found = {f"p{p:g}": float(np.percentile(latencies, p)) / 1e3 for p in (50, 90, 99, 99.9)} if count else {}
    found |= {"mean": float(latencies.mean()) / 1e3, "max": float(latencies.max()) / 1e3} if count else {}
    in_time = int((latencies <= 1e6 * load.slo).sum())
    outcomes = {OK: count} | ({"FAILED": summary.failed} if summary.failed else {})
    return replace(
        sample_of(load, H2load.name),
        calls=count,
        outcomes=outcomes,
        answered=count,
        in_time=in_time,
        service_in_time=in_time,
        latency_ms=percentiles(found, count),
        generator_cpu=cpu,
        void=void,
    )


def flooded(load: Load, calls: NDArray[np.int64], summary: Summary, size: int, cpu: float) -> Sample:
    """The sample of an open loop; `calls` as `parse_log` has them, an answer has `size` bytes, `cpu` in cores.

    Void where calls were lost, where a body was not whole, or where the last ones left late.
    """
    planned = calls_in(load.rate, load.seconds)
    answered, rest = divmod(summary.body_bytes, size)
    latencies = np.sort(calls[:, 1])
    answers = latencies[len(latencies) - min(answered, len(latencies)) :]  # the least favourable
    late = int((latencies > 1e6 * load.slo).sum())
    in_time = max(0, answered - late)
    slip = float(np.ptp(calls[:, 0])) / 1e6 - load.seconds if len(calls) else 0.0
    found = {f"p{p:g}": float(np.percentile(answers, p)) / 1e3 for p in (50, 90, 99, 99.9)} if answered else {}
    outcomes = {OK: answered, REFUSED: len(calls) - answered, UNANSWERED: planned - len(calls)}
    return replace(
        sample_of(load, H2load.name),
        calls=planned,
        outcomes={name: count for name, count in outcomes.items() if count},
        answered=answered,
        in_time=in_time,
        service_in_time=in_time,
        latency_ms=percentiles(found, answered),
        slip=max(0.0, slip),
        generator_cpu=cpu,
        void=flood_void(load, planned - len(calls), planned, rest, slip),
    )


def flood_void(load: Load, missing: int, planned: int, rest: int, slip: float) -> str:
    """Why an open loop does not count; empty if it does. `rest`: bytes of bodies that are no whole answer."""
    if rest:
        return f"{rest} bytes of bodies are no whole answer"
    if missing > MOST_LATE * planned:
        return f"{missing} of {planned} calls were not sent or not answered"
    if slip > max(MOST_LATE * load.seconds, load.late_after):
        return f"the generator lagged: it was {1e3 * slip:.0f} ms behind its schedule at the end"
    return ""


def require_h2load() -> str:
    """The path of h2load; raise BenchError naming the package where there is none."""
    path = shutil.which("h2load")
    if path is None:
        raise BenchError("h2load: not found on this machine; install the package nghttp2-client (apt-get install nghttp2-client)")
    return path


def connections(in_flight: int, http1: bool) -> int:
    """HTTP/2: the largest number up to 4 that divides `in_flight`; HTTP/1.1 has one call on each connection."""
    return in_flight if http1 else next(n for n in range(MOST_CONNECTIONS, 0, -1) if in_flight % n == 0)


def arguments(target: Target, body: Path, in_flight: int) -> list[str]:
    """h2load's, but for how long to go on."""
    clients = connections(in_flight, target.http1)
    protocol = ["--h1"] if target.http1 else []
    return [*protocol, "-c", str(clients), "-m", str(in_flight // clients), *what(target, body), url_of(target)]


def open_arguments(target: Target, body: Path, rate: float, seconds: float) -> list[str]:
    """h2load's for so many calls a second, on all connections together; each sends what is due every 10 ms."""
    clients, count = MOST_CONNECTIONS, calls_in(rate, seconds)
    return [
        "-c",
        str(clients),
        "-m",
        str(MOST_WAITING),
        "--rps",
        f"{rate / clients:.3f}",
        "-n",
        str(count),
        *what(target, body),
        url_of(target),
    ]


def calls_in(rate: float, seconds: float) -> int:
    """Calls of an open loop: a whole number for each connection."""
    return MOST_CONNECTIONS * max(1, round(rate * seconds / MOST_CONNECTIONS))


def what(target: Target, body: Path) -> list[str]:
    """The options that say what is sent."""
    return ["-d", str(body), *(part for header in (OCTETS_HEADERS if target.http1 else GRPC_HEADERS) for part in ("-H", header))]


def url_of(target: Target) -> str:
    """Where a call goes."""
    return f"http://{target.url}{target.path or METHOD}"


def parse_summary(text: str) -> Summary:
    """Read h2load's closing lines; raise BenchError if they are not there."""
    counts, statuses, traffic = (pattern.search(text) for pattern in (COUNTS, STATUSES, TRAFFIC))
    if not (counts and statuses and traffic):
        raise BenchError(f"h2load: it printed no summary; its last line is {_last_line(text)!r}")
    succeeded, *bad = (int(count) for count in counts.groups())
    refused = sum(int(status) for status in statuses.groups()[1:])
    return Summary(succeeded, max(sum(bad), refused), int(traffic[1]))


def parse_log(text: str) -> NDArray[np.int64]:
    """[n, 2]: start and latency in microseconds, from a log of `start, status, microseconds` lines; only status 200 counts."""
    if not text:
        return np.empty((0, 2), np.int64)
    table: NDArray[np.int64] = np.array(text.split(), dtype=np.int64).reshape(-1, 3)
    answered: NDArray[np.int64] = table[table[:, 1] == 200][:, (0, 2)]
    return answered


def settled(log: NDArray[np.int64], lead: float, seconds: float) -> NDArray[np.int64]:
    """Latencies of those answered within `seconds`, from `lead` seconds after the first started on."""
    if not log.size:
        return np.empty(0, np.int64)
    begin = log[:, 0].min() + round(1e6 * lead)
    ends = log.sum(1)
    counted: NDArray[np.int64] = log[(ends >= begin) & (ends < begin + round(1e6 * seconds)), 1]
    return counted


def void_reason(summary: Summary, in_flight: int, answer_bytes: int, counted: int) -> str:
    """Why the run does not count; empty if it does."""
    if summary.failed:
        return f"{summary.failed} requests failed beside {summary.succeeded} that succeeded"
    least = summary.succeeded * answer_bytes
    if not least <= summary.body_bytes <= least + in_flight * answer_bytes:
        brought = f"{summary.succeeded:,} answers of {answer_bytes} bytes brought {summary.body_bytes:,} bytes"
        return f"{brought}; expected {least:,}: some were errors"
    if counted < 2 * in_flight:
        return f"only {counted} calls were answered with {in_flight} in flight; measure longer (--duration)"
    return ""


def _failures(target: Target, load: Load) -> float:
    """Calls that the server says it answered with an error, where it says so."""
    counts = target.counts(load.model) if target.failures else None
    return sum(counts.sums[name] for name in target.failures) if counts else 0.0


def _run(command: list[str], seconds: float) -> str:
    return _call([command[0], "-D", f"{max(1, round(1000 * seconds))}ms", *command[1:]], seconds)


def _call(command: list[str], seconds: float) -> str:
    try:
        # A session of its own: Ctrl-C reaches the benchmark, which saves what it has; `run` then kills h2load.
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + GRACE_SECONDS, start_new_session=True, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"h2load: {command[-1]}: it did not end within {seconds + GRACE_SECONDS:g} s") from None
    if done.returncode:
        raise BenchError(f"h2load: it failed with status {done.returncode}: {_last_line(done.stderr or done.stdout)}")
    return done.stdout


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or ["it said nothing"])[-1]


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ask(target: Target, requests: Requests) -> int:
    """Send the first request, hold its answer to raw ONNX Runtime's, and give the bytes of its body.

    Raises BenchError if the call fails or the answer is wrong.
    """
    return _ask_http(target, requests) if target.http1 else _ask_grpc(target, requests)


def ask_patiently(target: Target, requests: Requests) -> int:
    """`ask`, again and again: a server that is still busy with a flood refuses a call with a deadline."""
    for _ in range(TRIES - 1):
        try:
            return ask(target, requests)
        except BenchError:
            time.sleep(PAUSE_SECONDS)
    return ask(target, requests)


def _ask_grpc(target: Target, requests: Requests) -> int:
    with grpc.insecure_channel(target.url, options=OPTIONS) as channel:
        send: Any = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        try:
            answer: bytes = send(requests.data[0], timeout=ANSWER_SECONDS)
        except grpc.RpcError as error:
            raise BenchError(f"{target.name}: a call to {target.url} failed: {details_of(error)}") from None
    requests.check(logits_of(answer), target.name)
    return len(framed(answer))


def _ask_http(target: Target, requests: Requests) -> int:
    assert requests.images is not None  # noqa: S101  # servers that take raw bytes are only asked for images
    host, _, port = target.url.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_SECONDS)
    try:
        connection.request("POST", target.path, requests.images.tobytes(), {"content-type": OCTETS})
        reply = connection.getresponse()
        data = reply.read()
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{target.name}: a call failed: {error}") from None
    finally:
        connection.close()
    if reply.status != http.HTTPStatus.OK:
        raise BenchError(f"{target.name}: HTTP {reply.status}: {data[:200].decode(errors='replace')}")
    requests.check(np.frombuffer(data, np.float32).reshape(len(requests.images), -1), target.name)
    return len(data)
