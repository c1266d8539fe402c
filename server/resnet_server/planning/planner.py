"""From the files of a version to the plan that serves it here."""

import json
import logging
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path

from resnet_server.engines.api import CUDA_PROVIDER, ONNXRUNTIME, RUNTIME_NAMES, Device
from resnet_server.engines.device import available_cores
from resnet_server.engines.runtimes import pick_runtimes, runtime_version
from resnet_server.errors import EngineError
from resnet_server.planning.group_plan import MemberFacts, choose_for_group
from resnet_server.planning.measure import Found, Task, layouts
from resnet_server.planning.plan import Plan, Trial, choose
from resnet_server.planning.plan_cache import PlanCache
from resnet_server.processes import bond
from resnet_server.settings import Settings

log = logging.getLogger(__name__)

METHOD = 4  # of measuring and choosing; a plan that was made by another one is not used
GRACE_SECONDS = 120.0  # to open the sessions of a large network


Members = Mapping[str, MemberFacts] | None
"""Of a group by label; None where the files are one model's."""


@dataclass(frozen=True)
class ModelFile:
    """One certified file that a plan may choose; it takes UINT8 [rows, `height`, `width`, `channels`].

    Of a member of a group, its label stands for the precision.
    """

    precision: str
    path: Path
    sha256: str
    height: int
    width: int
    channels: int = 3


@dataclass(frozen=True)
class Planned:
    """A plan, what could not be measured (precisions, or a whole runtime) with the reason, and whether the plan was kept from before."""

    plan: Plan
    broken: dict[str, str]
    cached: bool


class Planner:
    """Measures plans on one device, and keeps them; `fresh`: measures even where one is kept.

    With a `niceness` (0 to 19, as `nice` has it) it measures in the time that others leave. Runtimes that are `left_out` are not tried.
    Raises StartError where the settings ask for a runtime that cannot compute here.
    """

    def __init__(self, settings: Settings, device: Device, fresh: bool = False, niceness: int = 0, left_out: Sequence[str] = ()) -> None:
        self._settings = settings
        self._niceness = niceness
        self._fresh = fresh
        self._device = device
        self._running: subprocess.Popen[str] | None = None
        self._given_up = False
        self._runtimes = pick_runtimes(settings.runtime, device, settings.engine_mode)
        self._left_out = tuple(left_out)
        self._cache = PlanCache(settings.plan_cache) if settings.plan_cache is not None else None

    @property
    def cores(self) -> int:
        """Cores to share out; a GPU counts as one."""
        return 1 if self._device.provider == CUDA_PROVIDER else available_cores()

    def plan(self, files: Sequence[ModelFile], members: Members = None) -> Planned:
        """Return the best plan over the files of one version, or, for the `members` of a group, by label.

        Raises EngineError if none of them opens.
        """
        return self.kept(files, members) or self.measure(files, members)

    def kept(self, files: Sequence[ModelFile], members: Members = None) -> Planned | None:
        """The plan that was measured before, if there is one."""
        plan = self._cache.load(self.key(files, members)) if self._cache and not self._fresh else None
        return None if plan is None else Planned(plan, {}, cached=True)

    def measure(self, files: Sequence[ModelFile], members: Members = None) -> Planned:
        """Measure a plan even if one is stored. A doubtful plan is not stored and replaces none."""
        self._given_up = False
        found = self._try_all(files, {label: facts.accuracy for label, facts in (members or {}).items()})
        if not found.trials:
            raise EngineError("; ".join(found.broken.values()) or "the trial found nothing")
        plan = self._choose(found.trials, members)
        if plan.doubtful:
            log.warning("plan: measured while others used the processor (its share was %.0f %%); not kept", 100 * plan.share)
        elif self._cache and not found.broken:
            self._cache.save(self.key(files, members), plan)
        return Planned(plan, found.broken, cached=False)

    def without(self, planned: Planned, files: Sequence[ModelFile]) -> Planned | None:
        """The best plan on ONNX Runtime, from the same trials, since that of `planned` on another does not hold here; None without one.

        It is kept, so that the next start does not try again what does not hold.
        """
        plan = planned.plan
        trials = [trial for trial in plan.trials if trial.runtime == ONNXRUNTIME]
        if plan.runtime == ONNXRUNTIME or not trials:
            return None
        other = replace(self._choose(trials, None), left_out=(*plan.left_out, plan.runtime))
        if self._cache and not other.doubtful and not planned.broken:
            self._cache.save(self.key(files, None), other)
        return Planned(other, planned.broken, cached=False)

    def _choose(self, trials: Sequence[Trial], members: Members) -> Plan:
        limits = (self._settings.latency_target, self.cores)
        plan = choose_for_group(trials, members, *limits) if members else choose(trials, *limits)
        return replace(plan, left_out=self._left_out)

    def _try_all(self, files: Sequence[ModelFile], accuracies: dict[str, float]) -> Found:
        """The trials of each runtime, in processes one after the other; one runtime that fails leaves those of the others."""
        trials: list[Trial] = []
        broken: dict[str, str] = {}
        runtimes = [runtime for runtime in self._runtimes if runtime not in self._left_out]
        seconds = self._settings.plan_seconds * max(1, len({file.path.parent for file in files})) / len(runtimes)
        for runtime in runtimes:
            try:
                found = self._try(files, accuracies, runtime, seconds)
            except EngineError as error:
                if self._given_up or runtime == runtimes[0]:
                    raise
                log.warning("plan: %s is left out: %s", RUNTIME_NAMES[runtime], error)
                broken[runtime] = str(error)
                continue
            trials += found.trials
            for precision, reason in found.broken.items():
                if runtime != runtimes[0]:
                    log.warning("plan: %s is left out for %s: %s", RUNTIME_NAMES[runtime], precision, reason)
                broken[f"{precision} on {runtime}"] = reason
        return Found(tuple(trials), broken)

    def _try(self, files: Sequence[ModelFile], accuracies: dict[str, float], runtime: str, seconds: float) -> Found:
        settings = self._settings
        shapes = tuple(layouts(self.cores, settings.engines, settings.threads))
        paths = {file.precision: str(file.path) for file in files}
        size = (files[0].height, files[0].width)
        task = Task(paths, astuple(self._device), shapes, settings.max_batch, *size, seconds, files[0].channels, accuracies, runtime)
        with tempfile.TemporaryFile("w+", encoding="utf-8") as result:
            status, said = self._run(result.fileno(), json.dumps(asdict(task)), seconds + GRACE_SECONDS)
            last = (said.strip().splitlines() or ["it said nothing"])[-1]
            if status:
                raise EngineError(f"plan: the trial ended with status {status}: {last}")
            result.seek(0)
            try:
                values = json.load(result)
                return Found(tuple(Trial(**trial) for trial in values["trials"]), values["broken"])
            except (ValueError, KeyError, TypeError) as error:
                raise EngineError(f"plan: the trial's result is not readable ({error}); it said: {last}") from None

    def _run(self, result: int, given: str, seconds: float) -> tuple[int, str]:
        """Exit status and what was said by a process that writes to `result`, and that `give_up` ends."""
        command = bond.command("resnet_server.planning.measure", str(result), str(self._niceness))
        pipe = subprocess.PIPE
        if self._given_up:
            raise EngineError("plan: given up")
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, pass_fds=(result,)) as process:
            self._running = process
            try:
                said, _ = process.communicate(given, timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise EngineError(f"plan: the trial did not end within {seconds:g} s") from None
            finally:
                self._running = None
        return process.returncode, said

    def give_up(self) -> None:
        """End what is measured, if something is, from another thread; `plan` then raises EngineError."""
        self._given_up = True
        running = self._running
        if running is not None:
            running.kill()

    def key(self, files: Sequence[ModelFile], members: Members = None) -> dict[str, object]:
        """What a kept plan depends on."""
        settings = self._settings
        group = {"group": [(file.precision, file.sha256, members[file.precision].accuracy) for file in files]} if members else {}
        return {
            **group,
            "method": METHOD,
            "files": sorted(file.sha256 for file in files),
            "machine": [processor(), self.cores, self._device.provider, self._device.name, os.uname().machine],
            "runtimes": {runtime: runtime_version(runtime) for runtime in self._runtimes},
            "limits": [settings.engines, settings.threads, settings.max_batch, settings.latency_target],
        }


def processor() -> str:
    """The processor as the system names it, with what it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return os.uname().machine
    facts = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "flags", "Features"))]
    return " ".join(sorted(set(facts)))
