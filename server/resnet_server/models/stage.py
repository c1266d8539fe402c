"""Where callers find models, and who changes that: in this process, or in front ends of it."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from resnet_server.engines.api import is_on_host
from resnet_server.metrics.metrics import Metrics
from resnet_server.models.assembly import assemble
from resnet_server.models.loaded import Loaded
from resnet_server.models.loader import Loader
from resnet_server.models.model_settings import ModelSettings
from resnet_server.models.plan_keeper import Kept
from resnet_server.models.registry import Registry
from resnet_server.models.served_model import ServedModel
from resnet_server.models.versions import VersionPolicy
from resnet_server.settings import Settings


class Control(Protocol):
    """What callers may ask to be changed."""

    @property
    def is_enabled(self) -> bool:
        """Whether callers may load and unload."""

    async def load(self, name: str, versions: VersionPolicy | None = None) -> None:
        """See `ModelControl.load`."""

    async def unload(self, name: str) -> None:
        """See `ModelControl.unload`."""


class Stage(Protocol):
    """Puts warm models before callers. One change after the other, on one event loop."""

    async def prepare(self, loaded: Loaded) -> Kept | None:
        """Have everything ready to serve it, while nobody finds it; how its plan is looked after, if it is."""

    async def switch(self, serving: Sequence[Loaded], own: Mapping[str, ModelSettings]) -> None:
        """Have callers find these and no others; on return all do. All of them are prepared. `own`: the models' own settings."""

    async def retire(self, loaded: Loaded, seconds: float) -> None:
        """Answer what it has taken in, within `seconds`; nobody finds it any more."""

    def tell(self) -> None:
        """What is refused, or on its way, has changed in the registry."""


class ProcessStage:
    """In front of callers of this very process."""

    def __init__(self, settings: Settings, loader: Loader, registry: Registry, metrics: Metrics) -> None:
        self._settings, self._loader, self._registry, self._metrics = settings, loader, registry, metrics
        self._models: dict[Loaded, ServedModel] = {}

    async def prepare(self, loaded: Loaded) -> Kept | None:
        """See `Stage.prepare`."""
        model = self._models[loaded] = assemble(loaded.info, loaded.engines, self._settings, self._metrics)
        looked_after = is_on_host(loaded.info.provider)  # a GPU is not shared with whatever else runs on the host
        return self._loader.keep(loaded, model) if looked_after else None

    async def switch(self, serving: Sequence[Loaded], own: Mapping[str, ModelSettings]) -> None:
        """See `Stage.switch`; done before the first pause."""
        models, before = [self._models[loaded] for loaded in serving], list(self._registry.ready)
        added, removed = [one for one in models if one not in before], [one for one in before if one not in models]
        self._registry.switch(added, removed, own)

    async def retire(self, loaded: Loaded, seconds: float) -> None:
        """See `Stage.retire`."""
        await self._models.pop(loaded).retire(seconds)

    def tell(self) -> None:
        """The registry is the one that callers' methods look at."""
