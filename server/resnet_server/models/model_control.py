"""Models that change while they serve: versions are loaded beside those in service, take over at once, and what goes is drained."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any

from resnet_server.errors import (
    InvalidRequestError,
    ModelNotFoundError,
    ModelRefusedError,
    QueueFullError,
    ServingError,
    shown,
)
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.description import describe
from resnet_server.models.group import VERSION
from resnet_server.models.group_loader import GroupLoader, GroupSource, highest, names_to_scan, wanted
from resnet_server.models.in_service import InService, Part
from resnet_server.models.loaded import Loaded
from resnet_server.models.loader import Loader
from resnet_server.models.loads import load_one, placed, reasoned
from resnet_server.models.model_settings import wanted_of
from resnet_server.models.plan_keeper import PlanKeeper
from resnet_server.models.registry import Refused, Registry
from resnet_server.models.repository import Published, Repository, Trust, digests, model_folders, read_model
from resnet_server.models.stage import ProcessStage, Stage
from resnet_server.models.versions import VersionPolicy
from resnet_server.settings import Group, Settings

log = logging.getLogger(__name__)

MOST_WAITING = 16
"""Callers whose loads and unloads wait for each other: these are done one after the other."""
RETRY_SECONDS = 5.0
Digests = dict[str, dict[str, str]]
"""Of the repository's versions, by model and version."""
Work = Coroutine[Any, Any, None]


class ModelControl:
    """Owns what is in service in this process. All of it happens on one event loop, one change after the other.

    As `--model-control` says: with `explicit`, `load` and `unload` do what callers ask; with `poll`, changes of the repository are
    taken in; with `none`, what is loaded at the start stays. A group follows its members: where another version of one serves, or none,
    it is loaded anew beside the one in service.
    """

    def __init__(
        self, settings: Settings, repository: Repository, loader: Loader, registry: Registry, metrics: Metrics, stage: Stage | None = None
    ) -> None:
        self._settings = settings
        self._repository = repository
        self._loader = loader
        self._registry = registry
        self._metrics = metrics
        self._stage = stage or ProcessStage(settings, loader, registry, metrics)
        self._trust = Trust(settings.allow_uncertified, settings.require_policy, settings.require_signature)
        self._wanted = wanted_of(settings)
        self._serving: dict[tuple[str, str], InService] = {}
        self._keeper = PlanKeeper([])
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[asyncio.Task[None]] = set()
        self._seen: Digests = {}
        self._groups = {group.name: group for group in wanted(settings)}
        self._group_loader = GroupLoader(loader, settings)
        self._unloaded: set[str] = set()

    async def start(self, loaded: Sequence[tuple[Published, list[Loaded]]], found: Sequence[Published]) -> None:
        """Serve what was loaded; `found`: all that was to be."""
        await self._switch([await self._prepare(*one) for one in loaded], [])
        for published in found:
            self._seen.setdefault(published.name, {})[published.version] = published.digest
        self._keeper.start()
        if self._settings.model_control == "poll":
            self._begin(self._poll())

    @property
    def is_enabled(self) -> bool:
        """Whether callers may load and unload."""
        return self._settings.model_control == "explicit"

    async def load(self, name: str, versions: VersionPolicy | None = None) -> None:
        """Have the `versions` that are asked for in service, as they are now on disk; without, those of its own or the server's policy.

        Returns when they serve and what they replace is drained. Raises ModelNotFoundError for what is not in the repository, and
        ModelRefusedError where a version cannot serve: then those before stay. Goes on if the caller leaves.
        """
        await self._in_turn(self._load(name, versions))

    async def unload(self, name: str) -> None:
        """Take all versions of the model out of service; returns when what they had taken in is answered. Raises ModelNotFoundError."""
        await self._in_turn(self._unload(name))

    async def stop(self) -> None:
        """Accept no more changes; the models in service go on."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._keeper.close()

    async def close(self) -> None:
        """End all engines; what still runs is not waited for."""
        for task in self._retiring:
            task.cancel()
        if self._retiring:
            await asyncio.wait(self._retiring)
        await asyncio.gather(*(part.loaded.close() for version in self._serving.values() for part in version.parts))

    def _begin(self, work: Work) -> "asyncio.Task[None]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _in_turn(self, work: Work) -> None:
        if len(self._tasks) >= MOST_WAITING:
            work.close()
            raise QueueFullError(f"{len(self._tasks)} loads and unloads wait already; try again later", RETRY_SECONDS)
        await asyncio.shield(self._begin(work))

    async def _load(self, name: str, versions: VersionPolicy | None) -> None:
        async with self._keeper.turn:
            if name in self._groups:
                if versions is not None:
                    raise InvalidRequestError(f"parameters.versions: '{name}' is a group; it has the versions of its members in service")
                self._raise_refused(name, await self._renew(self._groups[name]))
                return
            found = await asyncio.to_thread(self._read, name, versions)
            self._raise_refused(name, await self._take_in(name, found))
            self._unloaded.discard(name)
            for group, refused in await self._renew_groups_of(name):
                self._raise_refused(group, refused)

    async def _unload(self, name: str, forget: bool = False) -> None:
        async with self._keeper.turn:
            versions = self._of(name)
            if not versions and name not in {refused.name for refused in self._registry.refused}:
                known = ", ".join(sorted({key[0] for key in self._serving})) or "none"
                raise ModelNotFoundError(f"model_name: '{shown(name)}' is unknown; served: {known}")
            unloaded = [Refused(*one.published.key, "unloaded", unloaded=True) for one in versions]
            await self._replace(name, [], versions, [] if forget else unloaded)
            if name not in self._groups:
                self._unloaded.add(name)
                await self._renew_groups_of(name)

    def _read(self, name: str, asked: VersionPolicy | None) -> list[Published]:
        self._repository.refresh(name)
        folders = model_folders(self._repository.root)
        if name not in folders:  # names are compared, never joined to a path
            raise ModelNotFoundError(f"model_name: '{shown(name)}' is not in the repository; it holds {', '.join(folders) or 'nothing'}")
        found = read_model(self._repository, folders[name], self._wanted, self._trust, asked)
        if not found:
            raise ModelNotFoundError(f"model_name: '{name}' has no published version")
        return found

    async def _take_in(self, name: str, found: Sequence[Published]) -> list[Refused]:
        """Load what is new of `found`, put it in service, and take out what is not in `found`, unless something was refused."""
        before = self._of(name)
        unchanged = {one.published.key for one in before if one.published.digest in {published.digest for published in found}}
        fresh: list[tuple[Published, list[Loaded]]] = []
        refused: list[Refused] = []
        try:
            for published in found:
                if published.key not in unchanged:
                    await self._load_beside(published, fresh, refused)
        except BaseException:
            await asyncio.gather(*(loaded.close() for _, parts in fresh for loaded in parts))
            raise
        renewed, chosen = {published.key for published, _ in fresh}, {published.key for published in found}
        out = [one for one in before if one.published.key in renewed or (not refused and one.published.key not in chosen)]
        await self._replace(name, fresh, out, refused)
        return refused

    async def _load_beside(self, published: Published, fresh: list[tuple[Published, list[Loaded]]], refused: list[Refused]) -> None:
        self._registry.changing[published.key] = "LOADING"
        self._stage.tell()
        try:
            like = [part.loaded for one in self._of(published.name) for part in one.parts]
            fresh.append((published, await load_one(published, self._loader, like)))
        except ModelRefusedError as error:
            log.error("%s version %s is refused: %s", *published.key, error)
            refused.append(Refused(*published.key, str(error)))
        finally:
            del self._registry.changing[published.key]
            self._stage.tell()

    async def _replace(
        self, name: str, fresh: Sequence[tuple[Published, list[Loaded]]], out: Sequence[InService], refused: Sequence[Refused]
    ) -> None:
        for old in (one for one in self._registry.refused if one.name == name and not one.unloaded):
            self._metrics.model_refused.remove(old.name, old.version)
        for new in (one for one in refused if not one.unloaded):
            self._metrics.model_refused.labels(new.name, new.version).set(1)
        self._registry.refuse(name, refused)
        await self._switch([await self._prepare(*one) for one in fresh], out)
        if out:
            retiring = asyncio.ensure_future(self._retire(out))
            self._retiring.add(retiring)
            retiring.add_done_callback(self._retiring.discard)
            await asyncio.shield(retiring)

    async def _prepare(self, published: Published, loaded: Sequence[Loaded]) -> InService:
        return InService(published, tuple([await self._prepare_part(one) for one in loaded]))

    async def _prepare_part(self, loaded: Loaded) -> Part:
        self._metrics.forget(*loaded.info.key)  # of another version of that number
        self._metrics.in_service(*loaded.info.key[:2])
        part = Part(loaded, await self._stage.prepare(loaded))
        describe(loaded, self._metrics)
        return part

    async def _switch(self, fresh: Sequence[InService], out: Sequence[InService]) -> None:
        for one in out:
            del self._serving[one.published.key]
        for one in fresh:
            self._serving[one.published.key] = one
        own = {key[0]: one.published.own for key, one in self._serving.items()}
        await self._stage.switch([loaded for one in self._serving.values() for loaded in one.loaded], own)
        self._keeper.kept[:] = [part.kept for one in self._serving.values() for part in one.parts if part.kept is not None]
        for one in fresh:
            log.info("%s version %s is in service", *one.published.key)

    async def _retire(self, out: Sequence[InService]) -> None:
        """Answer what these have taken in, and end their engines."""
        keys = {one.published.key for one in out} - self._serving.keys()
        self._registry.changing.update(dict.fromkeys(keys, "UNLOADING"))
        self._stage.tell()
        parts = [part for one in out for part in one.parts]
        try:
            await asyncio.gather(*(self._stage.retire(part.loaded, self._settings.drain_seconds) for part in parts))
        finally:
            await asyncio.gather(*(part.loaded.close() for part in parts))
            for key in keys:
                self._registry.changing.pop(key, None)
            for part in parts:
                if part.loaded.info.key[:2] not in self._serving:
                    self._metrics.forget(*part.loaded.info.key)
                    self._metrics.out_of_service(*part.loaded.info.key[:2])
            self._registry.let_go()
            self._stage.tell()
            log.info("out of service: %s", ", ".join(f"{one.published.name} version {one.published.version}" for one in out))

    def _of(self, name: str) -> list[InService]:
        return [one for key, one in self._serving.items() if key[0] == name]

    async def _renew_groups_of(self, member: str) -> list[tuple[str, list[Refused]]]:
        """Have the groups that a model is a member of follow it, but for those that callers have unloaded; what was refused."""
        unloaded = {refused.name for refused in self._registry.refused if refused.unloaded}
        following = [group for group in self._groups.values() if member in group.members and group.name not in unloaded]
        return [(group.name, await self._renew(group)) for group in following]

    async def _renew(self, group: Group) -> list[Refused]:
        """Load a group whose members are others than before, put it in service and drain what it was; or say why that cannot be."""
        source, before = await asyncio.to_thread(self._source, group), self._of(group.name)
        if before and before[0].published.digest == source.digest:
            return []
        fresh: list[tuple[Published, list[Loaded]]] = []
        refused: list[Refused] = []
        self._registry.changing[group.name, VERSION] = "LOADING"
        self._stage.tell()
        try:
            like = [part.loaded for one in before for part in one.parts]
            loaded = await reasoned(group.name, VERSION, self._group_loader.load(source, like))
            fresh.append((placed(source, loaded), [loaded]))
        except ModelRefusedError as error:
            log.error("%s is refused: %s", group.name, error)
            refused.append(Refused(group.name, VERSION, str(error)))
        finally:
            del self._registry.changing[group.name, VERSION]
            self._stage.tell()
        await self._replace(group.name, fresh, before if fresh or not source.versions else [], refused)
        return refused

    def _source(self, group: Group) -> GroupSource:
        """The highest version of each member that is in service; of those that are served by the group alone, the highest there is."""
        found = {name: self._versions_of(name) for name in group.members}
        absent = tuple(name for name, versions in found.items() if not versions)
        return GroupSource(group.name, tuple(highest(versions) for versions in found.values() if versions), absent)

    def _versions_of(self, name: str) -> list[Published]:
        serving = [one.published for one in self._of(name)]
        folders = model_folders(self._repository.root)
        if serving or name in self._unloaded or name not in folders:
            return serving
        return read_model(self._repository, folders[name], self._wanted, self._trust)

    def _raise_refused(self, name: str, refused: Sequence[Refused]) -> None:
        if not refused:
            return
        serving = ", ".join(sorted((one.published.version for one in self._of(name)), key=int))
        stays = f"in service: version {serving}" if serving else "no version is in service"
        reasons = "; ".join(f"version {one.version} is refused: {one.reason}" for one in refused)
        raise ModelRefusedError(f"model '{name}' {reasons}; {stays}")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._settings.poll_seconds)
            try:
                await self.look()
            except OSError as error:
                log.error("repository: %s cannot be read: %s", self._repository.url, error.strerror)

    async def look(self) -> None:
        """Take in what has changed in the repository since the last look; what is refused is not tried again before it changes."""
        now = await asyncio.to_thread(self._look)
        for name in [*now, *(name for name in self._seen if name not in now)]:
            if now.get(name, {}) == self._seen.get(name, {}):
                continue
            self._seen[name] = now.get(name, {})
            try:
                await self._follow(name)
            except ServingError as error:
                log.error("%s", error)
        self._seen = now

    async def _follow(self, name: str) -> None:
        """Take in what changed of a model: under its own name, if it has one here, and in groups."""
        if self._settings.models and name not in self._settings.models:
            async with self._keeper.turn:
                await self._renew_groups_of(name)
        elif self._seen[name]:
            await self._load(name, None)
        else:
            await self._unload(name, forget=True)

    def _look(self) -> Digests:
        self._repository.refresh()
        folders = model_folders(self._repository.root)
        names = names_to_scan(self._settings) or tuple(folders)
        return {name: digests(self._repository, folders[name], self._wanted) for name in names if name in folders}
