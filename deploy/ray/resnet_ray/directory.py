"""Where the placed servers are: a Ray actor that holds an address as long as its replica renews it."""

import asyncio
import time
from typing import Any

import ray

NAME, NAMESPACE = "resnet-directory", "resnet-serving"
LEASE_SECONDS = 3.0


class Directory:
    """Addresses with leases. Should it die, Ray starts it again and the replicas fill it within a renewal."""

    def __init__(self, lease_seconds: float = LEASE_SECONDS) -> None:
        self._lease = lease_seconds
        self._until: dict[str, float] = {}
        self._changed = asyncio.Condition()

    async def renew(self, address: str) -> None:
        """Hold an address for another lease."""
        async with self._changed:
            self._until[address] = time.monotonic() + self._lease
            self._changed.notify_all()

    async def leave(self, address: str) -> None:
        """Give an address up at once: its server drains."""
        async with self._changed:
            self._until.pop(address, None)
            self._changed.notify_all()

    async def addresses(self) -> list[str]:
        """host:port of every server whose lease holds, in order."""
        now = time.monotonic()
        self._until = {address: until for address, until in self._until.items() if until > now}
        return sorted(self._until)

    async def after(self, known: list[str], seconds: float) -> list[str]:
        """The addresses once they differ from `known`, or after `seconds`."""
        end = time.monotonic() + seconds
        async with self._changed:
            while (found := await self.addresses()) == known and (left := end - time.monotonic()) > 0:
                # A lease that ends tells nobody: look again when the next one may have.
                try:
                    await asyncio.wait_for(self._changed.wait(), min(left, self._lease / 4))
                except TimeoutError:
                    continue
        return found


def directory() -> Any:
    """The cluster's directory; the first to ask starts it."""
    actor = ray.remote(Directory).options(
        name=NAME, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, num_cpus=0, max_restarts=-1, max_concurrency=1000
    )
    return actor.remote()
