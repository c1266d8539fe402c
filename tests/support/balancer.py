"""A real Envoy with the configuration that the project ships, on free ports, over servers named at run time."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

CONFIG = Path(__file__).parents[2] / "deploy" / "envoy"
PATIENCE = 30.0


@dataclass(frozen=True)
class Balancer:
    """Where to call it and to ask it, and the file of its servers."""

    url: str
    admin: str
    endpoints: Path

    def serve(self, urls: Sequence[str]) -> None:
        """Give it the servers at these ports of the loopback and no others."""
        document = yaml.safe_load((CONFIG / "endpoints.yaml").read_text())
        ports = [int(url.rpartition(":")[2]) for url in urls]
        addresses = [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports]
        document["resources"][0]["endpoints"][0]["lb_endpoints"] = addresses
        fresh = self.endpoints.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(document))
        fresh.rename(self.endpoints)

    def ask(self, path: str) -> Any:
        """An answer of its administration, as JSON."""
        with urllib.request.urlopen(f"http://{self.admin}{path}", timeout=5) as answer:  # our own Envoy
            return json.load(answer)

    def wait_for(self, count: int) -> None:
        """Return once `count` servers are healthy; fail after PATIENCE seconds."""
        poll(lambda: len(self.healthy()) == count, f"{count} healthy servers")

    def healthy(self) -> list[str]:
        """Addresses of the servers that get calls."""
        (cluster,) = [item for item in self.ask("/clusters?format=json")["cluster_statuses"] if item["name"] == "resnet"]
        hosts = [host for host in cluster.get("host_statuses", []) if host["health_status"] == {"eds_health_status": "HEALTHY"}]
        return [f"127.0.0.1:{host['address']['socket_address']['port_value']}" for host in hosts]


def poll(condition: Any, what: str, seconds: float = PATIENCE) -> None:
    """Ask again and again until it holds: for what another process does, which tells nobody."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


@contextmanager
def running_envoy(folder: Path, urls: Sequence[str]) -> Iterator[Balancer]:
    """Envoy over the servers there, all of them healthy; killed at the end."""
    config, admin, log = folder / "envoy.yaml", folder / "admin", folder / "envoy.log"
    endpoints = folder / "endpoints.yaml"
    text = (CONFIG / "envoy.yaml").read_text()
    for told, given in (
        ("port_value: 9901", "port_value: 0"),
        ("port_value: 8080", "port_value: 0"),
        ("deploy/envoy/endpoints.yaml", str(endpoints)),
    ):
        assert text.count(told) == 1
        text = text.replace(told, given)
    config.write_text(text)
    Balancer("", "", endpoints).serve(urls)
    command = [
        Path(sys.executable).with_name("envoy"),
        "-c",
        config,
        "--admin-address-path",
        admin,
        "--disable-hot-restart",  # which would leave memory behind
        "--concurrency",
        "1",
    ]
    with log.open("w") as file:
        process = subprocess.Popen([*map(str, command), "--log-level", "warning"], stderr=file)
    try:
        poll(lambda: process.poll() is not None or (admin.exists() and admin.read_text()), "Envoy's administration")
        assert process.poll() is None, log.read_text()
        asked = Balancer("", admin.read_text(), endpoints)
        poll(lambda: asked.ask("/listeners?format=json").get("listener_statuses"), "Envoy's listener")
        (listener,) = asked.ask("/listeners?format=json")["listener_statuses"]
        port = listener["local_address"]["socket_address"]["port_value"]
        balancer = Balancer(f"127.0.0.1:{port}", asked.admin, endpoints)
        balancer.wait_for(len(urls))
        yield balancer
    finally:
        process.kill()
        process.wait()
