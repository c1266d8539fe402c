"""What loading a model begins with and ends with: its origin, what its engines replay, and the warm engines."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from resnet_proto.manifest import ReplaySample
from resnet_proto.sample_check import Expected

from resnet_server.engines.api import Images
from resnet_server.engines.process.engine import ProcessEngine
from resnet_server.engines.thread_engine import ThreadEngine
from resnet_server.models.repository import Candidate, Published
from resnet_server.models.served_model import ModelInfo
from resnet_server.planning.planner import Members, ModelFile, Planned, Planner

AnyEngine = ProcessEngine | ThreadEngine


@dataclass(frozen=True)
class Origin:
    """What a model is started from: the version, its file, and what is replayed. `beside`: while others serve, and must not suffer."""

    published: Published
    candidate: Candidate
    sample: ReplaySample | None
    beside: bool = False


@dataclass(frozen=True)
class ReplayTask:
    """What a network of an engine has to answer to which images."""

    images: Images
    expected: Expected
    network: int = 0


@dataclass(eq=False)
class Loaded:
    """A model that holds its certificate here, and the warm engines that compute it; `seconds` from opening to warm.

    `planner` makes another plan of these `files` (the `members` of a group), and `restart` loads the same in another plan.
    """

    info: ModelInfo
    engines: list[AnyEngine]
    planner: Planner
    files: list[ModelFile]
    restart: "Callable[[Planned], Awaitable[Loaded]]"
    members: Members = None
    seconds: float = 0.0

    async def close(self) -> None:
        """End the engines; what still runs is not waited for."""
        await close_all(self.engines)


async def close_all(engines: list[AnyEngine]) -> None:
    """End engines; what still runs is not waited for."""
    await asyncio.gather(*(engine.close() for engine in engines))
