"""What `make compose-test` checks, in this order; each step raises CheckError where something does not hold and returns what it saw."""

import json
import re
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from resnet_client import Client
from resnet_models.labels import CIFAR10_LABELS
from resnet_models.sample import load_sample

from deploy.check.dashboard import panels
from deploy.check.errors import CheckError
from deploy.check.project import FILES, ROOT, Project, run, wait_for
from deploy.check.prometheus import Prometheus
from deploy.check.traffic import Traffic, png, refused

IMAGES = 32
ALERT = re.compile(r"^ +- alert: (\w+)$", re.MULTILINE)
BUILT = ("server", "bench", "export")
LABELS = ("title", "description", "version", "revision", "source", "licenses")
ABSENT = "torch torchvision onnx triton gcc cc make"
COMPUTED = "sum(resnet_images_total)"
"""Images, not calls: into how many calls a client cuts its images is its own affair."""


def demand(holds: bool, otherwise: str) -> None:
    """Raise CheckError unless it holds."""
    if not holds:
        raise CheckError(otherwise)


class Steps:
    """The steps, over one project."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.prometheus = Prometheus(project.prometheus)
        self.services = ["server", "prometheus"]
        self.processes: list[int] = []

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        """Name and function of each, in order."""
        return [
            ("build: every image", self.build),
            ("image: labels, lock file, no PyTorch and no compiler", self.image),
            ("up: the server turns healthy on the networks in its image", self.up),
            ("hardening: user, capabilities, file system, limits", self.hardening),
            ("classify: through the published port", self.classify),
            ("Prometheus: the very images are in its query API", self.counted),
            ("rules: every alert and recording rule is loaded and tested", self.rules),
            ("dashboard: each panel's query has data", self.dashboard),
            ("kill -9: the server comes back by itself", self.kill),
            ("SIGTERM: what was accepted is answered within the grace period", self.drain),
            ("scale: two servers, both scraped, both answer", self.scale),
            ("bench: the profile leaves its report", self.bench),
            ("publish: with deploy/publish.yml the job publishes the checkpoints, and the server serves those", self.publish),
            ("export: a second time the job has nothing left to do", self.export),
        ]

    def build(self) -> str:
        """Build, remove what the last run's tags named, and say how large the images are."""
        before = self._built()
        self.project.compose(*FILES, "--profile", "bench", "build", log=ROOT / "build" / "compose-check.log")
        if superseded := before - self._built():
            run("docker", "image", "rm", *superseded)
        names = [self.project.image(service) for service in BUILT]
        sizes = [run("docker", "image", "inspect", "--format", "{{.Size}}", name) for name in names]
        return ", ".join(f"{name.partition(':')[0]} {int(size) / 1e6:,.0f} MB" for name, size in zip(names, sizes, strict=True))

    def image(self) -> str:
        """The server's image carries its facts and nothing it does not need."""
        name = self.project.image("server")
        labels = json.loads(run("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", name))
        if missing := [label for label in LABELS if not labels.get(f"org.opencontainers.image.{label}")]:
            raise CheckError(f"{name}: has no label {', '.join(missing)}")
        revision = labels["org.opencontainers.image.revision"]
        demand(revision == self.project.environment["RESNET_REVISION"], f"{name}: is labelled with revision {revision}")
        script = (
            "import importlib.util as u, json, shutil, sys;"
            "found = [n for n in sys.argv[1].split() if u.find_spec(n) or shutil.which(n)];"
            "print(json.dumps([found, open('/usr/share/doc/resnet-serving/requirements.lock').read().count('==')]))"
        )
        command = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "python", name, "-c", script, ABSENT]
        found, pins = json.loads(run(*command))
        demand(not found, f"{name}: holds {', '.join(found)}")
        return f"revision {revision[:12]}, {pins} pinned packages, none of {ABSENT}"

    def up(self) -> str:
        """Start what can be started here."""
        self._choose_images()
        self.project.compose("up", "-d", "--no-build", *self.services, log=ROOT / "build" / "compose-check.log")
        (server,) = self.project.containers("server")
        seconds = wait_for("server: healthy", lambda: self.project.healthy(server), 300)
        without = "" if "grafana" in self.services else "; without Grafana, whose image is not on this machine"
        return f"healthy after {seconds:.0f} s{without}"

    def hardening(self) -> str:
        """Ask the kernel, not the compose file."""
        (server,) = self.project.containers("server")
        script = "touch /plans/x /tmp/x && rm /plans/x; touch /x && echo writable; grep -hE '^(Uid|CapEff|NoNewPrivs)' /proc/1/status"
        said = run("docker", "exec", server, "sh", "-c", script).split()
        facts = dict(zip(("uid", "capabilities", "no_new_privileges"), (said[1], said[6], said[8]), strict=True))
        wanted = {"uid": "10001", "capabilities": "0000000000000000", "no_new_privileges": "1"}
        demand(facts == wanted, f"server: {facts}; expected {wanted} and a read-only root file system")
        host = self.project.inspect(server)["HostConfig"]
        limits = {name: host[name] for name in ("Memory", "NanoCpus", "PidsLimit")}
        demand(all(limits.values()) and host["ReadonlyRootfs"], f"server: limits are {limits}")
        return f"uid 10001, no capability, read-only, {limits['NanoCpus'] / 1e9:g} cores, {limits['Memory'] / 2**30:g} GiB"

    def classify(self) -> str:
        """Real photographs to every model; and what must be refused, so that the panels of errors have something to show."""
        (server,) = self.project.containers("server")
        sample, said = load_sample(), []
        encoded = [png(index) for index in range(IMAGES)]
        with Client(self.project.url(server), timeout=60) as client:
            for info in client.models():
                found = client.classify(encoded, model=info.name)
                right = sum(one.best.name == CIFAR10_LABELS[truth] for one, truth in zip(found, sample.labels, strict=False))
                demand(right >= 0.75 * IMAGES, f"{info.name}: {right} of {IMAGES} photographs right")
                said.append(f"{info.name} {info.precision} {right} of {IMAGES} right")
            refusals = [refused(client, info.name, b"no image"), refused(client, "resnet9", encoded[0])]
        demand(refusals == ["INVALID_ARGUMENT", "NOT_FOUND"], f"a broken image and an unknown model were answered {refusals}")
        return ", ".join(said)

    def counted(self) -> str:
        """As many images as were asked about, and one more after one more."""
        (server,) = self.project.containers("server")
        asked = IMAGES * len(self.project.environment["RESNET_SERVER_MODELS"].split(","))
        wait_for(f"Prometheus: {COMPUTED} = {asked}", lambda: self.prometheus.value(COMPUTED) == asked, 60)
        with Client(self.project.url(server), timeout=60) as client:
            client.classify([png(0)], model=client.models()[0].name)
        seconds = wait_for(f"Prometheus: {COMPUTED} = {asked + 1}", lambda: self.prometheus.value(COMPUTED) == asked + 1, 60)
        return f"{asked} images, then {asked + 1}, the last seen {seconds:.0f} s after it was answered"

    def rules(self) -> str:
        """What the files define is what Prometheus evaluates; and the rules' own unit tests hold."""
        folder = ROOT / "deploy" / "prometheus" / "rules"
        wanted = set(ALERT.findall((folder / "alerts.yml").read_text(encoding="utf-8")))
        wait_for("Prometheus: rules", lambda: all(rule["health"] == "ok" for rule in self.prometheus.rules()), 60)
        loaded = self.prometheus.rules()
        alerts = {rule["name"] for rule in loaded if rule["type"] == "alerting"}
        demand(alerts == wanted, f"Prometheus: has loaded the alerts {sorted(alerts)}; expected {sorted(wanted)}")
        firing = [rule["name"] for rule in loaded if rule.get("state") == "firing"]
        demand(not firing, f"Prometheus: {', '.join(firing)} fires on a healthy server")
        self.project.compose("exec", "-T", "prometheus", "promtool", "test", "rules", "/etc/prometheus/tests/alerts.yml")
        return f"{len(alerts)} alerts, {len(loaded) - len(alerts)} recorded, none fires, promtool's tests hold"

    def dashboard(self) -> str:
        """Ask Prometheus each query, under traffic; those about a GPU only where there is one."""
        targets = [(panel.title, target) for panel in panels() for target in panel.targets if not target.needs_gpu]
        (server,) = self.project.containers("server")
        with Traffic(self.project.url(server)):
            for title, target in targets:
                wait_for(f"panel '{title}': data for {target.expression}", partial(self._has_data, target.expression), 90)
        shown = f"{len(targets)} queries of {len({title for title, _ in targets})} panels"
        if "grafana" not in self.services:
            return shown
        with urllib.request.urlopen(f"{self.project.grafana}/api/dashboards/uid/resnet-serving", timeout=30) as answer:  # noqa: S310  # http, on this machine
            return f"{shown}; Grafana has '{json.load(answer)['dashboard']['title']}'"

    def kill(self) -> str:
        """Kill the server's process inside the container, as the kernel does where memory runs out."""
        (server,) = self.project.containers("server")
        before, url = self.project.inspect(server)["RestartCount"], self.project.url(server)
        run("docker", "exec", server, "python", "-c", "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)")
        wait_for("server: restarted", lambda: self.project.inspect(server)["RestartCount"] > before, 60)
        seconds = wait_for("server: healthy again", lambda: self.project.healthy(server), 300)
        demand(self.project.url(server) == url, f"server: has moved from {url} to {self.project.url(server)}")
        with Client(url, timeout=60) as client:
            demand(client.ready(), "server: is healthy and not ready")
            client.classify([png(1)], model=client.models()[0].name)
        return f"healthy {seconds:.0f} s after the restart, and answers"

    def drain(self) -> str:
        """Stop under traffic: calls are answered or refused, none is lost, and Docker need not kill."""
        (server,) = self.project.containers("server")
        with Traffic(self.project.url(server)) as running:
            wait_for("traffic: 20 answers", lambda: running.answered >= 20, 60)
            started = time.monotonic()
            self.project.compose("stop", "server")
            seconds = time.monotonic() - started
        status = self.project.inspect(server)["State"]["ExitCode"]
        demand(status == 0, f"server: ended with status {status} on SIGTERM")
        demand(running.lost == [], f"traffic: {running.lost[:1]}")
        return f"ended with 0 in {seconds:.0f} s; {running.answered} calls answered, {running.refused} refused afterwards, none lost"

    def scale(self) -> str:
        """Two replicas on two published ports out of a range."""
        self.project.environment["RESNET_GRPC_PORTS"] = self.project.grpc_range
        self.project.compose("up", "-d", "--no-build", "--no-deps", "--scale", "server=2", "server")
        servers = self.project.containers("server")
        for server in servers:
            wait_for("server: healthy", partial(self.project.healthy, server), 300)
        urls = {self.project.url(server) for server in servers}
        demand(len(urls) == 2, f"scale: the published ports are {urls}")
        for url in urls:
            with Client(url, timeout=60) as client:
                client.classify([png(2)], model=client.models()[0].name)
        wait_for("Prometheus: two servers up", lambda: self.prometheus.value('sum(up{job="resnet-server"})') == 2, 60)
        self._remember_processes(servers)
        return f"{' and '.join(sorted(urls))} answer, Prometheus scrapes both"

    def bench(self) -> str:
        """A short comparison against the running servers."""
        options = [
            "--models",
            self.project.environment["RESNET_NETWORKS"].split(",")[0],
            "--duration",
            "500ms",
            "--repeats",
            "1",
            "--concurrency",
            "2",
        ]
        self.project.compose("--profile", "bench", "run", "--rm", "--no-deps", "-T", "bench", *options)
        found = sorted(str(path.relative_to(self.project.reports)) for path in self.project.reports.rglob("*") if path.is_file())
        demand({"results.json", "report.html"} <= set(found), f"bench: left {', '.join(found) or 'nothing'}")
        return ", ".join(found)

    def publish(self) -> str:
        """On a new volume, into which Docker must not have copied the networks of the server's image before the job looks at it."""
        self.project.compose(*FILES, "up", "-d", "--no-build", "--scale", "server=1", "server", log=ROOT / "build" / "compose-check.log")
        demand("published: /repository/" in self.project.compose(*FILES, "logs", "export"), "export: published nothing on a new volume")
        (server,) = self.project.containers("server")
        wait_for("server: healthy", lambda: self.project.healthy(server), 300)
        writable = {mount["Destination"]: mount["RW"] for mount in self.project.inspect(server)["Mounts"]}
        demand(writable.get("/repository") is False, f"server: mounts {writable}; expected /repository, read-only")
        with Client(self.project.url(server), timeout=60) as client:
            served = {info.name: info.precision for info in client.models()}
            for name in served:
                client.classify([png(3)], model=name)
        asked = self.project.environment["RESNET_PRECISIONS"].split(",")
        demand(bool(served) and set(served.values()) <= set(asked), f"server: serves {served}; published was {', '.join(asked)}")
        return ", ".join(f"{name} {precision}" for name, precision in served.items())

    def export(self) -> str:
        """The job is idempotent."""
        said = self.project.compose(*FILES, "run", "--rm", "--no-deps", "-T", "export").splitlines()
        demand(all(line.endswith("is published already") for line in said) and bool(said), f"export: said {said[-1:]}")
        return "; ".join(said)

    def nothing_left(self) -> str:
        """After `down`: no container, network, volume or process."""
        if remains := self.project.remains():
            raise CheckError(f"down: left {', '.join(remains)}")
        alive = [pid for pid in self.processes if Path(f"/proc/{pid}").exists()]
        demand(not alive, f"down: left the processes {alive}")
        return f"no container, network or volume, and none of {len(self.processes)} processes"

    def _built(self) -> set[str]:
        """Ids of the images that the project's tags name now."""
        return {line for name in BUILT for line in run("docker", "image", "ls", "-q", "--no-trunc", self.project.image(name)).split()}

    def _choose_images(self) -> None:
        """Another version of Prometheus does where the named one is not here; Grafana stays out where it is not here."""
        tag = self.project.image("prometheus").partition(":")[2]
        local = run("docker", "image", "ls", "prom/prometheus", "--format", "{{.Tag}}").split()
        if local and tag not in local:
            self.project.environment["PROMETHEUS_TAG"] = local[0]
        if run("docker", "image", "ls", "-q", self.project.image("grafana")):
            self.services.append("grafana")

    def _remember_processes(self, containers: list[str]) -> None:
        """Numbers on this machine of what runs in the containers; none where Docker has a machine of its own."""
        for container in containers:
            pids = [int(line.split()[1]) for line in run("docker", "top", container).splitlines()[1:]]
            self.processes += [pid for pid in pids if Path(f"/proc/{pid}").exists()]

    def _has_data(self, expression: str) -> bool:
        return bool(self.prometheus.query(expression))
