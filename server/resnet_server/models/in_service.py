"""A version in service, in all its precisions."""

from dataclasses import dataclass

from resnet_server.models.loaded import Loaded
from resnet_server.models.plan_keeper import Kept
from resnet_server.models.repository import Published


@dataclass(frozen=True, eq=False)
class Part:
    """A version in one precision, in service; `kept` is how its plan is looked after, if it is."""

    loaded: Loaded
    kept: Kept | None


@dataclass(frozen=True, eq=False)
class InService:
    """A version in all its precisions."""

    published: Published
    parts: tuple[Part, ...]

    @property
    def loaded(self) -> list[Loaded]:
        """What callers find."""
        return [part.loaded for part in self.parts]
