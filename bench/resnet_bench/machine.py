"""The machine: what it is, and what else it did while something was measured."""

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
from resnet_server.build_form import build_form

PACKAGES = ("resnet-serving", "onnxruntime-gpu", "onnxruntime", "grpcio", "numpy", "protobuf", "hdrhistogram", "psutil")
CGROUP = Path("/sys/fs/cgroup")
QUOTA_FILES = ("cpu.max", "cpu/cpu.cfs_quota_us")
TICK_SECONDS = 0.05  # the kernel counts CPU time in ticks of 10 ms a process: a short run cannot be held to a share


@dataclass(frozen=True)
class Machine:
    """Where and with what it was measured; `revision` is git's, `cgroup` holds the limits of this process's control group."""

    processor: str
    cores: int
    system: str
    kernel: str
    cgroup: dict[str, str]
    revision: str
    python: str
    versions: dict[str, str]


@dataclass(frozen=True)
class Disturbance:
    """What a run had to bear.

    `steal`: share of the cores' time that the hypervisor took; `others`: cores that other programs used;
    `throttled`: share of the time that a CPU quota held this control group back; `pressure`: share of the time in which some (cpu) or
    all (memory, io) tasks waited. None or absent where the system does not tell.
    """

    cores: int = 0
    seconds: float = 0.0
    steal: float | None = None
    others: float | None = None
    throttled: float | None = None
    pressure: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How much disturbance a run bears, as shares 0..1: steal and others of the cores, stalls and throttling of the time."""

    steal: float = 0.02
    others: float = 0.05
    stalled: float = 0.01
    throttled: float = 0.01

    def reason(self, seen: Disturbance, saturating: bool) -> str:
        """Why the run is void, empty if it holds. A load that saturates the cores meets a quota by itself."""
        if seen.steal is not None and seen.steal > self.steal:
            return f"disturbed: the hypervisor took {seen.steal:.1%} of the cores' time"
        if seen.others is not None and seen.others > self.others * seen.cores + TICK_SECONDS / max(seen.seconds, TICK_SECONDS):
            return f"disturbed: other programs used {seen.others:.2f} cores"
        for kind in ("memory", "io"):
            if seen.pressure.get(kind, 0.0) > self.stalled:
                return f"disturbed: everything waited for {kind} during {seen.pressure[kind]:.1%} of the time"
        if not saturating and seen.throttled is not None and seen.throttled > self.throttled:
            return f"disturbed: a CPU quota held the processes back during {seen.throttled:.1%} of the time"
        return ""


NO_LIMITS = Limits(2.0, 1e9, 2.0, 2.0)


class MachineWatch:
    """Looks at the machine at the beginning and the end of a run; `begin` and `end` get the CPU seconds of what is measured so far."""

    def __init__(self) -> None:
        self._cores = cpus()
        self._before = self._look(0.0)

    def begin(self, measured_cpu: float) -> None:
        """The counted time begins."""
        self._before = self._look(measured_cpu)

    def end(self, measured_cpu: float) -> Disturbance:
        """It ends."""
        before, after = self._before, self._look(measured_cpu)
        seconds = max(1e-6, after["time"] - before["time"])

        def share(name: str) -> float | None:
            return (after[name] - before[name]) / seconds if name in before and name in after else None

        steal, busy, ours = share("steal"), share("busy"), share("ours")
        others = None if busy is None or ours is None else max(0.0, busy - ours)
        pressure = {kind: found for kind in ("cpu", "memory", "io") if (found := share(f"pressure {kind}")) is not None}
        count = len(self._cores)
        return Disturbance(count, seconds, None if steal is None else steal / count, others, share("throttled"), pressure)

    def _look(self, measured_cpu: float) -> Mapping[str, float]:
        seen = {"time": time.monotonic(), "ours": measured_cpu + own_cpu_seconds()}
        times = psutil.cpu_times(percpu=True)
        picked = [times[core] for core in self._cores if core < len(times)]
        names = ("user", "nice", "system", "irq", "softirq")
        seen["busy"] = sum(getattr(core, name, 0.0) for core in picked for name in names)
        if picked and hasattr(picked[0], "steal"):
            seen["steal"] = sum(core.steal for core in picked)
        for kind, which in (("cpu", "some"), ("memory", "full"), ("io", "full")):
            with suppress(OSError, ValueError, StopIteration):
                text = Path(f"/proc/pressure/{kind}").read_text(encoding="ascii")
                seen[f"pressure {kind}"] = next(1e-6 * int(line.rpartition("=")[2]) for line in text.splitlines() if line.startswith(which))
        with suppress(ValueError, IndexError):
            stat = dict(line.split() for line in control("cpu.stat", "cpu/cpu.stat").splitlines())
            if "throttled_usec" in stat or "throttled_time" in stat:
                seen["throttled"] = 1e-6 * float(stat.get("throttled_usec", 0)) + 1e-9 * float(stat.get("throttled_time", 0))
        return seen


def own_cpu_seconds() -> float:
    """Of this process and its children that are no server under test: the generators, and those that have ended."""
    own = psutil.Process()
    total = cpu_of(own)
    for child in own.children(recursive=True):
        with suppress(psutil.Error, ProcessLookupError):
            if os.getsid(child.pid) == os.getsid(0):  # servers have sessions of their own and are counted by their target
                total += cpu_of(child)
    return total


def cpu_of(process: psutil.Process) -> float:
    """User and system seconds, with those of children that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def cpus() -> Sequence[int]:
    """Numbers of the processors that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)


def available_cores() -> int:
    """How many cores this process may use: its processors, or a control group's CPU quota where that is less, rounded up."""
    quota = cpu_quota()
    return len(cpus()) if quota is None else max(1, min(len(cpus()), -int(-quota // 1)))


def cpu_quota(root: Path = CGROUP) -> float | None:
    """The control group's CPU quota in cores; None without one. `sched_getaffinity` knows nothing of it."""
    with suppress(ValueError, IndexError):
        fields = control(*QUOTA_FILES, root=root).split()
        period = fields[1] if len(fields) > 1 else control("cpu/cpu.cfs_period_us", root=root)
        if fields[0] not in ("max", "-1"):
            return int(fields[0]) / int(period)
    return None


def control(*names: str, root: Path = CGROUP) -> str:
    """The first of these control files that can be read, of version 2 or 1; empty without one."""
    for name in names:
        with suppress(OSError):
            return (root / name).read_text(encoding="ascii").strip()
    return ""


def this_machine() -> Machine:
    """The machine, the revision and the versions that run."""
    versions = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    if "resnet-serving" in versions:
        versions["resnet-serving"] += f" ({build_form()})"
    limits = {
        "cpu": control(*QUOTA_FILES) or "unknown",
        "cpuset": control("cpuset.cpus.effective", "cpuset/cpuset.effective_cpus") or "unknown",
        "memory": control("memory.max", "memory/memory.limit_in_bytes") or "unknown",
    }
    system = f"{platform.system()} {platform.machine()}"
    return Machine(processor(), available_cores(), system, platform.release(), limits, _revision(), platform.python_version(), versions)


def _revision() -> str:
    """`git describe` of the tree this runs from; RESNET_REVISION, or unknown, where it is installed without one."""
    git = shutil.which("git")
    if git is not None:
        command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--long", "--abbrev=12"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    return os.environ.get("RESNET_REVISION", "unknown")


def processor() -> str:
    """As the system names it."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()
