"""What is served: (model, version) to a model that is ready, or to the reason it is not."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from resnet_server.errors import InvalidRequestError, ModelNotFoundError, ModelUnavailableError, ServingError, shown
from resnet_server.models.model_settings import ModelSettings
from resnet_server.models.served_model import ServedModel
from resnet_server.models.versions import Weights

State = Literal["loading", "ready", "draining"]
Change = Literal["LOADING", "UNLOADING"]
CLOSED: dict[State, str] = {"loading": "the server is loading its models", "draining": "the server is shutting down"}
PATIENCE_SECONDS = 5.0
"""Without any engine a model keeps its calls waiting for so long, since most engines are back by then; then it refuses them."""


@dataclass(frozen=True)
class Refused:
    """A version that is not served, and why; `unloaded`: because somebody wished so."""

    name: str
    version: str
    reason: str
    unloaded: bool = False


@dataclass(frozen=True)
class Table:
    """What is served at a moment: the models, the shares of versions in calls that name none, and which versions only get copies."""

    ready: list[ServedModel] = field(default_factory=list)
    weights: Mapping[str, Weights] = field(default_factory=dict)
    shadows: Mapping[str, Weights] = field(default_factory=dict)

    def is_shadow(self, model: ServedModel) -> bool:
        """Whether it answers only those who name its version."""
        shadow = self.shadows.get(model.name)
        return shadow is not None and any(version == model.version for version, _ in shadow.shares)

    def draw(self, name: str) -> str:
        """The version for a call that names none; empty where its model has no weights."""
        names = {model.name for model in self.ready}
        if not name and len(names) == 1:
            (name,) = names
        weights = self.weights.get(name)
        return "" if weights is None else weights.draw([model.version for model in self.ready if model.name == name])


class Registry:
    """All models by name and version; `state` turns to `ready` when all are loaded and to `draining` at the end.

    `generation` grows with each change of what is served. `changing` has the versions that are on their way into service or out of it,
    with the protocol's word for that. `turned_away` grows while calls come to a server that is not ready.

    To be changed on one event loop; `find`, `check_open` and `check_up` may be called on any thread.
    """

    def __init__(self, patience: float = PATIENCE_SECONDS) -> None:
        self._table = Table()
        self.refused: list[Refused] = []
        self.generation = 0
        self.turned_away = 0
        self.changing: dict[tuple[str, str], Change] = {}
        self._state: State = "loading"
        self._patience = patience
        self._known: dict[tuple[str, str, str], ServedModel] = {}
        self._waiting: dict[ServedModel, asyncio.TimerHandle] = {}
        self._lost: set[ServedModel] = set()
        self._watchers: list[Callable[[], None]] = []

    @property
    def ready(self) -> list[ServedModel]:
        """The models that are served."""
        return self._table.ready

    @property
    def shadows(self) -> Mapping[str, Weights]:
        """By model, the shares of its calls of which versions in shadow get copies."""
        return self._table.shadows

    def is_shadow(self, model: ServedModel) -> bool:
        """Whether it answers only those who name its version."""
        return self._table.is_shadow(model)

    @property
    def state(self) -> State:
        """See the class."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._tell()

    @property
    def is_ready(self) -> bool:
        """True while every model is loaded and has an engine; versions in shadow may have none."""
        table = self._table
        return self._state == "ready" and all(model.engines_up for model in table.ready if not table.is_shadow(model))

    def is_up(self, name: str, version: str = "") -> bool:
        """True while the model is served and has an engine; False for an unknown one, as the protocol asks."""
        try:
            return bool(self.find(name, version).engines_up)
        except ServingError:
            return False

    def is_known(self, name: str, version: str = "") -> bool:
        """True for a model that was found in the repository, served or refused; while loading, for any name."""
        found = [(model.name, model.version) for model in self.ready] + [(refused.name, refused.version) for refused in self.refused]
        return self._state == "loading" or any(name == other and version in ("", one) for other, one in found)

    def watch(self, changed: Callable[[], None]) -> None:
        """Call `changed` on the event loop after each change of `state` and whenever a model gets or loses engines."""
        self._watchers.append(changed)

    def add(self, model: ServedModel) -> None:
        """Serve a model from now on."""
        self.switch((model,), ())

    def switch(
        self, added: Iterable[ServedModel], removed: Collection[ServedModel], own: Mapping[str, ModelSettings] | None = None
    ) -> None:
        """Serve `added` and no longer `removed`, at once: whoever asks finds either what was or what is, and nothing in between.

        `own`: the settings of all models from now on, as far as they share calls out.

        Whoever has found one of the removed may still queue its rows for a while.
        """
        new = list(added)
        for model in removed:
            model.watch_engines(lambda _: None)
            if (timer := self._waiting.pop(model, None)) is not None:
                timer.cancel()
            self._lost.discard(model)
        ready = [*(model for model in self.ready if model not in removed), *new]
        self._table = replace(self._table, ready=ready) if own is None else table_of(ready, own)
        self._known = {}  # after the table: who finds with the old one in hand keeps nothing
        self.generation += 1
        for model in new:
            model.watch_engines(partial(self._engines_changed, model))  # which tells
        if not new:
            self._tell()

    def is_weighed(self, name: str, version: str) -> bool:
        """Whether two such calls may find two versions."""
        weights = self._table.weights
        return not version and bool(weights) and (not name or name in weights)

    def let_go(self) -> None:
        """A removed model has ended: drop it also for callers that found it just before."""
        self._known = {}
        self.generation += 1
        self._tell()

    def refuse(self, name: str, refused: Iterable[Refused]) -> None:
        """These versions of a model are not served now, and no others of it are refused."""
        self.refused = [*(other for other in self.refused if other.name != name), *refused]
        self._tell()

    def find(self, name: str, version: str = "", precision: str = "") -> ServedModel:
        """Return the model; an empty name means the only one, an empty version the highest, an empty precision the first loaded.

        Raises ModelNotFoundError, ModelUnavailableError with the reason where the model is refused, loading or draining, and
        InvalidRequestError for a precision that is not loaded.
        """
        self.check_open()
        kept, table = self._known, self._table  # in this order: see `switch`
        if self.is_weighed(name, version):
            version = table.draw(name)
        known = kept.get((name, version, precision))
        if known is None:
            known = self._find(table, name, version, precision)
            kept[name, version, precision] = known  # wrong names are not kept, they have no end
        return known

    def check_open(self) -> None:
        """Raise ModelUnavailableError while loading or draining."""
        if self._state != "ready":
            self.turned_away += 1
            raise ModelUnavailableError(CLOSED[self._state])

    def check_up(self, model: ServedModel) -> None:
        """Raise ModelUnavailableError for a model whose engines have been gone for longer than it keeps calls waiting."""
        if model in self._lost:
            raise no_engine(model)

    def _engines_changed(self, model: ServedModel, up: int) -> None:
        if up:
            self._lost.discard(model)
            if (timer := self._waiting.pop(model, None)) is not None:
                timer.cancel()
        elif model not in self._waiting and model not in self._lost:
            self._waiting[model] = asyncio.get_running_loop().call_later(self._patience, self._give_up, model)
        self._tell()

    def _give_up(self, model: ServedModel) -> None:
        self._waiting.pop(model, None)
        self._lost.add(model)
        model.batcher.refuse_waiting(no_engine(model))

    def _tell(self) -> None:
        for changed in self._watchers:
            changed()

    def _find(self, table: Table, name: str, version: str, precision: str) -> ServedModel:
        ready = table.ready
        if not name and len({model.name for model in ready}) == 1:
            name = ready[0].name
        named = [model for model in ready if model.name == name and version in ("", model.version)]
        found = [model for model in named if version or not table.is_shadow(model)]
        if not found:
            raise only_shadows(named) if named else self._absence(name, version)
        highest = max(int(model.version) for model in found)
        loaded = {model.precision: model for model in reversed(found) if int(model.version) == highest}
        if precision and precision not in loaded:
            raise InvalidRequestError(f"precision: '{shown(precision)}' of model '{name}' is not loaded; loaded: {', '.join(loaded)}")
        return loaded[precision] if precision else next(reversed(loaded.values()))

    def _absence(self, name: str, version: str) -> ServingError:
        for refused in self.refused:
            if refused.name == name and version in ("", refused.version):
                how = "unloaded" if refused.unloaded else f"refused: {refused.reason}"
                return ModelUnavailableError(f"model '{name}' version {refused.version} is {how}")
        versions = sorted({model.version for model in self.ready if model.name == name}, key=int)
        if versions:
            return ModelNotFoundError(f"model_version: '{shown(version)}' of model '{name}' is unknown; served: {', '.join(versions)}")
        known = ", ".join(sorted({model.name for model in self.ready})) or "none"
        if not name:
            return ModelNotFoundError(f"model_name: is empty; expected one of {known}")
        return ModelNotFoundError(f"model_name: '{shown(name)}' is unknown; served: {known}")


def table_of(ready: list[ServedModel], own: Mapping[str, ModelSettings]) -> Table:
    """These models, their calls shared out as their own settings say."""
    weights = {name: settings.weights for name, settings in own.items() if settings.weights is not None}
    return Table(ready, weights, {name: settings.shadow for name, settings in own.items() if settings.shadow is not None})


def only_shadows(models: Sequence[ServedModel]) -> ModelUnavailableError:
    """The error text for a call that names no version while every version is in shadow."""
    versions = ", ".join(sorted({model.version for model in models}, key=int))
    return ModelUnavailableError(f"model '{models[0].name}' has no version in service but {versions} in shadow; name it to ask that one")


def no_engine(model: ServedModel) -> ModelUnavailableError:
    """The error text for a call whose model has no engine."""
    return ModelUnavailableError(f"model '{model.name}' version {model.version} has no engine; the server goes on starting one")
