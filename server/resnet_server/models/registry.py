"""What is served: (model, version) to a model that is ready, or to the reason it is not."""

from dataclasses import dataclass, field
from typing import Literal

from resnet_server.errors import InvalidRequestError, ModelNotFoundError, ModelUnavailableError, ServingError
from resnet_server.models.served_model import ServedModel


@dataclass(frozen=True)
class Refused:
    """A version that is not served, and why."""

    name: str
    version: str
    reason: str


@dataclass
class Registry:
    """All models by name and version; `state` turns to `ready` when all are loaded and to `draining` at the end."""

    ready: list[ServedModel] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    state: Literal["loading", "ready", "draining"] = "loading"
    _known: dict[tuple[str, str, str], ServedModel] = field(default_factory=dict)

    def find(self, name: str, version: str = "", precision: str = "") -> ServedModel:
        """Return the model; an empty name means the only one, an empty version the highest, an empty precision the first loaded.

        Raises ModelNotFoundError, ModelUnavailableError with the reason where the model is refused or draining, and
        InvalidRequestError for a precision that is not loaded.
        """
        self.check_open()
        known = self._known.get((name, version, precision))
        if known is None:
            known = self._find(name, version, precision)
            if self.state == "ready":  # nothing is loaded any more; wrong names are not kept, they have no end
                self._known[name, version, precision] = known
        return known

    def check_open(self) -> None:
        """Raise ModelUnavailableError while draining."""
        if self.state == "draining":
            raise ModelUnavailableError("the server is shutting down")

    def _find(self, name: str, version: str, precision: str) -> ServedModel:
        if not name and len({model.name for model in self.ready}) == 1:
            name = self.ready[0].name
        found = [model for model in self.ready if model.name == name and version in ("", model.version)]
        if not found:
            raise self._absence(name, version)
        highest = max(int(model.version) for model in found)
        loaded = {model.precision: model for model in reversed(found) if int(model.version) == highest}
        if precision and precision not in loaded:
            raise InvalidRequestError(f"precision: '{precision}' of model '{name}' is not loaded; loaded: {', '.join(loaded)}")
        return loaded[precision] if precision else next(reversed(loaded.values()))

    def _absence(self, name: str, version: str) -> ServingError:
        for refused in self.refused:
            if refused.name == name and version in ("", refused.version):
                return ModelUnavailableError(f"model '{name}' version {refused.version} is refused: {refused.reason}")
        versions = sorted({model.version for model in self.ready if model.name == name}, key=int)
        if versions:
            return ModelNotFoundError(f"model_version: '{version}' of model '{name}' is unknown; served: {', '.join(versions)}")
        known = ", ".join(sorted({model.name for model in self.ready})) or "none"
        if not name:
            return ModelNotFoundError(f"model_name: is empty; expected one of {known}")
        return ModelNotFoundError(f"model_name: '{name}' is unknown; served: {known}")
