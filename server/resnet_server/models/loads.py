"""Loads of versions and of groups: each ends in what serves, or refused with its reason, whatever it came up with."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from resnet_proto.manifest_pb2 import Manifest

from resnet_server.errors import ModelRefusedError, ServingError, StartError
from resnet_server.models.group import VERSION
from resnet_server.models.group_loader import GroupLoader, GroupSource
from resnet_server.models.loaded import Loaded
from resnet_server.models.loader import Loader
from resnet_server.models.repository import Published

log = logging.getLogger(__name__)

T = TypeVar("T")
Refuse = Callable[[Published, str], None]


async def load_all(found: Sequence[Published], loader: Loader, refuse: Refuse) -> AsyncIterator[tuple[Published, list[Loaded]]]:
    """Load before anybody is served; whatever one version comes up with, the others serve. Raises StartError."""
    for published in found:
        try:
            loaded = await load_one(published, loader)
        except ModelRefusedError as error:
            refuse(published, str(error))
        else:
            yield published, loaded


async def load_one(published: Published, loader: Loader, like: Sequence[Loaded] | None = None) -> list[Loaded]:
    """Load a version; raises StartError, and ModelRefusedError with the reason whatever keeps it from serving."""
    if published.refusal:
        raise ModelRefusedError(published.refusal)
    return await reasoned(*published.key, loader.load(published, like))


async def reasoned(name: str, version: str, loading: Coroutine[Any, Any, T]) -> T:
    """What is loaded; raises StartError, and ModelRefusedError with the reason whatever keeps it from serving."""
    try:
        return await loading
    except StartError:
        raise
    except ServingError as error:
        raise ModelRefusedError(str(error)) from None
    except Exception as error:
        log.exception("%s version %s cannot be loaded", name, version)
        raise ModelRefusedError(f"{type(error).__name__}: {error}") from None


async def load_groups(sources: Sequence[GroupSource], loader: GroupLoader, refuse: Refuse) -> AsyncIterator[tuple[Published, list[Loaded]]]:
    """As `load_all`; what callers find of a group stands in place of a published version."""
    for source in sources:
        try:
            loaded = await reasoned(source.name, VERSION, loader.load(source))
        except ModelRefusedError as error:
            refuse(place_of(source), str(error))
        else:
            yield placed(source, loaded), [loaded]


def place_of(source: GroupSource) -> Published:
    """What stands for a group where models have a published version."""
    return Published(source.name, VERSION, Path(), Manifest(name=source.name, version=VERSION), digest=source.digest)


def placed(source: GroupSource, loaded: Loaded) -> Published:
    """The same, as it is served."""
    return replace(place_of(source), manifest=loaded.info.manifest, labels=loaded.info.labels)
