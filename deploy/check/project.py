"""One compose project under a name of its own, and everything that `docker` is asked."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from deploy.check.errors import CheckError

ROOT = Path(__file__).parents[2]
PREFIX = "resnet-serving-check-"
REPLICAS = 2
FILES = ("-f", "docker-compose.yml", "-f", "deploy/publish.yml")
"""With the export job, which a plain `docker compose up` does without."""


def run(
    *command: str, environment: dict[str, str] | None = None, log: Path | None = None, shown: str = "", undisturbed: bool = False
) -> str:
    """The standard output of a command; raise CheckError with its name (or `shown`) and last line of complaint if it fails.

    An `undisturbed` command does not get the terminal's Ctrl-C.
    """
    try:
        result = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, start_new_session=undisturbed
        )
    except FileNotFoundError:
        raise CheckError(f"{command[0]}: is not installed; this check needs Docker with compose v2") from None
    if log is not None:
        log.write_text(result.stdout + result.stderr, encoding="utf-8")
    if result.returncode:
        said = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
        raise CheckError(f"{shown or ' '.join(command[:2])}: {said[-1].strip() if said else f'status {result.returncode}'}")
    return result.stdout.strip()


def revision() -> str:
    """The commit, `-dirty` if the tree has changed; `unknown` outside a git checkout."""
    try:
        return run("git", "describe", "--always", "--dirty", "--abbrev=40", "--match=")
    except CheckError:
        return "unknown"


def free_range(count: int) -> str:
    """`first-last` of neighbouring ports on 127.0.0.1 that are free now."""
    for first in range(28001, 32000, count):
        if all(is_free(port) for port in range(first, first + count)):
            return f"{first}-{first + count - 1}"
    raise CheckError(f"ports: no {count} free ones beside each other between 28001 and 32000")


def is_free(port: int) -> bool:
    """True if nothing listens there."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def require_free(name: str, port: str) -> None:
    """Raise CheckError unless the setting is the number of a port that nothing listens on."""
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise CheckError(f"{name}: '{port}'; expected the number of a port")
    if not is_free(int(port)):
        raise CheckError(f"{name}: {port} is in use on 127.0.0.1; expected a free port")


def wait_for(what: str, condition: Callable[[], bool], seconds: float) -> float:
    """Poll until the condition holds; return the seconds it took, or raise CheckError."""
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > seconds:
            raise CheckError(f"{what}: not within {seconds:g} s")
        time.sleep(1)
    return time.monotonic() - started


class Project:
    """Two shallow networks served on free ports; whatever the environment sets (RESNET_NETWORKS, ...) goes before."""

    def __init__(self) -> None:
        self.name = f"{PREFIX}{os.getpid()}"
        ports = free_range(1 + REPLICAS + 2)
        first, last = (int(port) for port in ports.split("-"))
        defaults = {
            "RESNET_TAG": "check",
            "RESNET_REVISION": revision(),
            "RESNET_NETWORKS": "resnet20,resnet32",
            "RESNET_SERVER_MODELS": "resnet20,resnet32",
            "RESNET_PRECISIONS": "fp32",
            "RESNET_SERVER_PLAN_SECONDS": "1",
            "RESNET_CPUS": str(min(2, int(run("docker", "info", "--format", "{{.NCPU}}")))),
            "RESNET_GRPC_PORTS": str(first),
            "RESNET_HTTP_PORTS": "0",
            "PROMETHEUS_PORT": str(last - 1),
            "GRAFANA_PORT": str(last),
        }
        self.environment = defaults | dict(os.environ)
        self.grpc_range = f"{first + 1}-{last - 2}"
        for name in ("RESNET_GRPC_PORTS", "PROMETHEUS_PORT", "GRAFANA_PORT"):
            require_free(name, self.environment[name])
        self.reports = Path(tempfile.mkdtemp(prefix=PREFIX))
        self.environment["RESNET_REPORTS"] = str(self.reports)
        self.prometheus = f"http://127.0.0.1:{self.environment['PROMETHEUS_PORT']}"
        self.grafana = f"http://127.0.0.1:{self.environment['GRAFANA_PORT']}"

    def compose(self, *arguments: str, log: Path | None = None) -> str:
        """`docker compose` with this project's name and settings."""
        command = ["docker", "compose", "--ansi", "never", "-p", self.name, *arguments]
        return run(*command, environment=self.environment, log=log, shown=f"docker compose {' '.join(arguments[:6])}")

    def image(self, service: str) -> str:
        """The image that the compose file names for a service."""
        config = json.loads(self.compose(*FILES, "--profile", "bench", "config", "--format", "json"))
        return str(config["services"][service]["image"])

    def containers(self, service: str) -> list[str]:
        """Ids of a service's containers, stopped ones too, in the order of their numbers."""
        lines = run(*["docker", "ps", "-a", "--no-trunc", "--format"], "{{.Names}} {{.ID}}", *self._filters(service)).splitlines()
        return [line.split()[1] for line in sorted(lines, key=lambda line: int(re.findall(r"\d+", line.split()[0])[-1]))]

    def inspect(self, container: str) -> Any:
        """What Docker knows of a container."""
        return json.loads(run("docker", "inspect", container))[0]

    def healthy(self, container: str) -> bool:
        """True once the health check has passed; raise CheckError if the container has ended for good."""
        state = self.inspect(container)["State"]
        if state["Status"] == "exited":
            raise CheckError(f"container {container[:12]}: ended with status {state['ExitCode']}: {self.last_words(container)}")
        return bool(state["Health"]["Status"] == "healthy")

    def last_words(self, container: str) -> str:
        """The last line that a container printed."""
        result = subprocess.run(["docker", "logs", "--tail", "1", container], capture_output=True, text=True, check=False)
        return (result.stdout + result.stderr).strip()

    def url(self, container: str) -> str:
        """host:port on this machine of a server's gRPC port."""
        return run("docker", "port", container, "8001/tcp").splitlines()[0]

    def remains(self) -> list[str]:
        """Containers, networks and volumes of the project that still exist."""
        kinds = (("ps", "-a"), ("network", "ls"), ("volume", "ls"))
        return [f"{kind[0]} {found}" for kind in kinds for found in run("docker", *kind, "-q", *self._filters()).split()]

    def down(self) -> None:
        """Remove everything but the images."""
        take_down(self.name, self.environment)
        for report in (*self.reports.glob("*/*"), *self.reports.glob("*")):
            report.rmdir() if report.is_dir() else report.unlink()
        self.reports.rmdir()

    def _filters(self, service: str = "") -> list[str]:
        labels = [f"project={self.name}"] + ([f"service={service}"] if service else [])
        return [part for label in labels for part in ("--filter", f"label=com.docker.compose.{label}")]


def take_down(name: str, environment: dict[str, str] | None = None) -> None:
    """`docker compose down` with volumes and whatever else carries the project's name."""
    command = [
        "docker",
        "compose",
        "--ansi",
        "never",
        *FILES,
        "--profile",
        "bench",
        "-p",
        name,
        "down",
        "--volumes",
        "--remove-orphans",
        "-t",
        "30",
    ]
    run(*command, environment=environment, undisturbed=True)


def sweep() -> list[str]:
    """Take down what earlier runs left that were killed outright; return their names."""
    projects = json.loads(run(*["docker", "compose", "ls", "-a", "--format", "json"]) or "[]")
    names = [project["Name"] for project in projects if re.fullmatch(rf"{PREFIX}\d+", project["Name"])]
    dead = [name for name in names if not is_running(int(name.removeprefix(PREFIX)))]
    for name in dead:
        take_down(name)
    return dead


def is_running(pid: int) -> bool:
    """True if there is a process with this number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
