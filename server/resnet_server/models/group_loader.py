"""From certified versions to a group that is warm: one plan for all members, and engines that hold the certificate of each."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from resnet_proto.manifest import ManifestError, read_replay

from resnet_server.engines.api import ONNXRUNTIME
from resnet_server.errors import EngineError, StartError
from resnet_server.models.description import log_ready
from resnet_server.models.group import VERSION, Entry, GroupInfo, entries, manifest_of, precision_of
from resnet_server.models.group_file import is_group
from resnet_server.models.loaded import AnyEngine, Loaded, Origin, ReplayTask
from resnet_server.models.loader import NICENESS, Loader, is_certified, keep_certified, parse_precisions
from resnet_server.models.repository import Published
from resnet_server.models.served_group import with_plan
from resnet_server.models.served_model import ModelInfo, Replay
from resnet_server.planning.group_plan import MemberFacts, choose_for_group, members_of
from resnet_server.planning.plan import Plan
from resnet_server.planning.planner import ModelFile, Planned, Planner
from resnet_server.planning.report import log_plan
from resnet_server.settings import Group, Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GroupSource:
    """A group and the versions that its members are of; `absent`: those of its models that have none in service."""

    name: str
    versions: tuple[Published, ...]
    absent: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """Changes with anything that is served."""
        return hashlib.sha256(repr([(*one.key, one.digest) for one in self.versions]).encode()).hexdigest()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The models that are no members, with reasons, from the repository alone."""
        absent = [f"{name}: not in service" for name in self.absent]
        refused = [(one, "all of it", one.refusal) for one in self.versions if one.refusal]
        rejected = [(one, precision, reason) for one in self.versions if not one.refusal for precision, reason in one.rejected]
        return (*absent, *(f"{one.name} version {one.version}: {which}: {reason}" for one, which, reason in [*refused, *rejected]))


def wanted(settings: Settings) -> list[Group]:
    """The groups to serve."""
    return [group for group in settings.groups if not settings.models or group.name in settings.models]


def of_groups(settings: Settings) -> Settings:
    """A group computes with ONNX Runtime: what OpenVINO compiles for each size of batch would be held for every member and engine."""
    return replace(settings, runtime=ONNXRUNTIME)


def sources(settings: Settings, found: Sequence[Published]) -> list[GroupSource]:
    """The groups to serve, each member in its highest version. Raises StartError for a name that is not there, or there twice."""
    return [_source(group, settings, found) for group in wanted(settings)]


def check_groups(settings: Settings) -> None:
    """Raise StartError for a group whose name is taken, or with members that are not in the repository."""
    names = [group.name for group in settings.groups]
    folders = [folder for folder in settings.repository.iterdir() if folder.is_dir()] if settings.repository.is_dir() else []
    there = {folder.name for folder in folders if not is_group(folder)}
    for group in settings.groups:
        if names.count(group.name) > 1:
            raise StartError(f"group: '{group.name}' is given twice")
        if group.name in there:
            raise StartError(f"group: '{group.name}' is a model of {settings.repository}; expected another name")
        if missing := [name for name in group.members if name not in there]:
            raise StartError(f"group: {group.name}: {', '.join(missing)} not in {settings.repository}; it holds {', '.join(sorted(there))}")


def names_to_scan(settings: Settings) -> tuple[str, ...]:
    """The models to read: those asked for by name, and the members of groups asked for; empty: all."""
    groups = {group.name: group for group in settings.groups}
    members = [name for model in settings.models if model in groups for name in groups[model].members]
    return tuple(dict.fromkeys([*(name for name in settings.models if name not in groups), *members]))


def alone(settings: Settings, found: Sequence[Published]) -> list[Published]:
    """Those of what was found that are served under their own names."""
    return [published for published in found if not settings.models or published.name in settings.models]


def _source(group: Group, settings: Settings, found: Sequence[Published]) -> GroupSource:
    answering = [published for published in found if not published.own.in_shadow(published.version)]
    by_name = {name: [published for published in answering if published.name == name] for name in group.members}
    if empty := [name for name, versions in by_name.items() if not versions]:
        raise StartError(f"group: {group.name}: {', '.join(empty)} has no version in {settings.repository}")
    return GroupSource(group.name, tuple(highest(versions) for versions in by_name.values()))


def highest(versions: Sequence[Published]) -> Published:
    """The version of a model that a group takes."""
    return max(versions, key=lambda one: int(one.version))


def entries_of(source: GroupSource, precision: str) -> list[Entry]:
    """What may be a member: every certified file, of the precisions asked for. Raises ServingError where they do not go together."""
    precisions = None if precision == "auto" else parse_precisions(precision)
    for reason in source.left_out:
        log.warning("%s: no member: %s", source.name, reason)
    certified = [
        (published, candidate)
        for published in source.versions
        for candidate in published.candidates
        if is_certified(published, candidate) and (precisions is None or candidate.artifact.precision in precisions)
    ]
    return entries(source.name, source.versions, certified)


@dataclass(frozen=True)
class Start:
    """A group as it is to be started: what may be a member, what is not and why, and whether others serve meanwhile."""

    name: str
    entered: Sequence[Entry]
    left_out: tuple[str, ...]
    beside: bool


class GroupLoader:
    """Loads groups by what `loader` does for versions."""

    def __init__(self, loader: Loader, settings: Settings) -> None:
        self._loader = loader
        self._settings = of_groups(settings)

    async def load(self, source: GroupSource, like: Sequence[Loaded] | None = None) -> Loaded:
        """Return the group, each member replayed and warm on every bucket; one that does not hold here is left out, and said to be.

        With `like`, others serve meanwhile and must not suffer: see `Loader.load`. Raises ServingError where members do not go together,
        or none is left.
        """
        started = time.monotonic()
        left, left_out = entries_of(source, self._settings.precision), list(source.left_out)
        while left:
            planned = await self._plan(left, like)
            log_plan(source.name, VERSION, planned)
            failed: list[Entry] = []
            try:
                loaded = await self._start(Start(source.name, left, tuple(left_out), like is not None), planned, failed)
            except EngineError as error:
                if not failed:
                    raise
                log.warning("%s: no member: %s: %s", source.name, failed[0].label, error)
                left_out.append(f"{failed[0].label}: {error}")
                left = [entry for entry in left if entry not in failed]
                continue
            loaded.seconds = time.monotonic() - started
            return loaded
        raise EngineError(f"group: {source.name}: no member holds its certificate here; see the log")

    async def _plan(self, entered: Sequence[Entry], like: Sequence[Loaded] | None) -> Planned:
        files, facts = files_of(entered), facts_of(entered)
        if like is None:
            return await self._loader.measured(Planner(self._settings, self._loader.device), Planner.plan, files, facts)
        planner = Planner(self._settings, self._loader.device, niceness=NICENESS)
        kept = await asyncio.to_thread(planner.kept, files, facts)
        if kept is None and (plan := plan_of_the_same(facts, like, self._settings.latency_target, planner.cores)) is not None:
            return Planned(plan, {}, cached=False)
        return kept or await self._loader.measured(planner, Planner.measure, files, facts)

    async def _start(self, start: Start, planned: Planned, failed: list[Entry]) -> Loaded:
        """`failed` is told whose certificate it was that did not hold."""
        by_label, plan, name = {entry.label: entry for entry in start.entered}, planned.plan, start.name
        members = [by_label[label] for label in members_of(plan)]
        origins = [await self._origin(entry, failed, start.beside) for entry in members]
        checks: list[Replay | None] = []
        precision = precision_of([entry.candidate.artifact.precision for entry in members])

        async def check(engine: AnyEngine) -> None:
            checks[:] = [await self._check(entry, origins[number], engine, number, failed) for number, entry in enumerate(members)]

        spec, key = self._loader.spec_of(origins, plan), (name, VERSION, precision)
        engines = await self._loader.open_engines(spec, plan, key, check, start.beside)
        keep_certified(engines, tasks_of(origins))
        info = replace(self._info(name, precision, members, checks, plan), left_out=start.left_out)
        log_ready(info, self._settings)
        log.info("%s answers with %s", name, info.properties()["members"])

        async def restart(planned: Planned) -> Loaded:
            return await self._start(start, planned, [])

        planner = Planner(self._settings, self._loader.device)
        return Loaded(info, engines, planner, files_of(start.entered), restart, facts_of(start.entered))

    async def _origin(self, entry: Entry, failed: list[Entry], beside: bool) -> Origin:
        published = entry.published
        try:
            sample = await asyncio.to_thread(read_replay, published.folder, published.manifest)
        except ManifestError as error:
            failed.append(entry)
            raise EngineError(str(error)) from None
        return Origin(published, entry.candidate, sample, beside)

    async def _check(self, entry: Entry, origin: Origin, engine: AnyEngine, number: int, failed: list[Entry]) -> Replay | None:
        try:
            return await self._loader.check_here(origin, engine, number)
        except EngineError:
            failed.append(entry)
            raise

    def _info(self, name: str, precision: str, members: Sequence[Entry], checks: Sequence[Replay | None], plan: Plan) -> GroupInfo:
        provider, labels = self._loader.device.provider, members[0].published.labels
        infos = [
            ModelInfo(entry.published.manifest, labels, entry.candidate.artifact.precision, provider, True, check, plan)
            for entry, check in zip(members, checks, strict=True)
        ]
        group = GroupInfo(
            manifest_of(name, precision, infos[-1]),
            labels,
            precision,
            provider,
            certified=True,
            replay=None,
            plan=plan,
            members=tuple(infos),
            accuracies=tuple(entry.accuracy for entry in members),
            target=self._settings.target,
        )
        return with_plan(group, plan)


def files_of(members: Sequence[Entry]) -> list[ModelFile]:
    """What a plan needs to know of them; the label stands for the precision."""
    return [replace(entry.candidate.file(entry.published.manifest.input), precision=entry.label) for entry in members]


def facts_of(members: Sequence[Entry]) -> dict[str, MemberFacts]:
    """What is known of them before they are measured, by label."""
    return {
        entry.label: MemberFacts(entry.accuracy, entry.candidate.artifact.precision, entry.published.manifest.network.multiply_adds)
        for entry in members
    }


def plan_of_the_same(facts: Mapping[str, MemberFacts], like: Sequence[Loaded], latency_target: float | None, cores: int) -> Plan | None:
    """What was measured of the same networks in other versions, with these accuracies; to be measured in calm. None without such."""
    for loaded in like:
        known = {label: (member.precision, member.multiply_adds) for label, member in (loaded.members or {}).items()}
        if known == {label: (member.precision, member.multiply_adds) for label, member in facts.items()}:
            trials = [trial for trial in loaded.info.plan.trials if trial.precision in facts]
            plan = choose_for_group(trials, facts, latency_target, cores)
            reason = "taken over from the members before; to be measured in calm"
            return replace(plan, reason=reason, trials=tuple(replace(trial, share=0.0) for trial in plan.trials))
    return None


def tasks_of(origins: Sequence[Origin]) -> list[ReplayTask]:
    """What the engines replay after a restart."""
    return [
        ReplayTask(origin.sample.images, origin.sample.expected(origin.published.manifest, origin.candidate.artifact), number)
        for number, origin in enumerate(origins)
        if origin.sample is not None
    ]
