"""One way to call both clients, so that one test holds for both."""

import asyncio
from typing import Any

from resnet_client import AsyncClient, Client

KINDS = ("blocking", "asyncio")


def ask(kind: str, url: str, method: str, *arguments: Any, options: dict[str, Any] | None = None, **named: Any) -> Any:
    """Call a method of a new client of this kind; a stream is read to its end."""
    stream = method.endswith("_stream")

    async def in_a_loop() -> Any:
        async with AsyncClient(url, **(options or {})) as client:
            found = getattr(client, method)(*arguments, **named)
            return [one async for one in found] if stream else await found

    if kind == "asyncio":
        return asyncio.run(in_a_loop())
    with Client(url, **(options or {})) as client:
        found = getattr(client, method)(*arguments, **named)
        return list(found) if stream else found
