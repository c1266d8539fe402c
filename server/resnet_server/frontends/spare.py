"""A front end's process that waits for its turn: the start of one takes a second of a core that computes besides, a handoff much less."""

import socket

from resnet_server.frontends import handoff
from resnet_server.frontends.handoff import Inbox
from resnet_server.processes.child import Child

MODULE = "resnet_server.frontends.process"
LEAST_START_SECONDS, START_TIMES = 15.0, 5.0
"""One that is not where it should be after so many times what it took the one before hangs."""


def patience_after(seconds: float) -> float:
    """For the next one, where one has taken so long."""
    return max(LEAST_START_SECONDS, START_TIMES * seconds)


class Spare:
    """One process for all front ends; who takes it leaves another, which is started again to wait in its place."""

    def __init__(self) -> None:
        self._watch(Child("spare front end", (MODULE,), socket.SOCK_STREAM))

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._child.pid

    def start(self) -> None:
        """Have one wait from now on."""
        self._child.start_at_last()

    def instead_of(self, ended: Child) -> Child | None:
        """The one that waits, whose socket is read from now on; `ended`, whose process has, takes its place. None: none waits."""
        ready = self._child
        if ready.socket is None:
            return None
        ready.name, ended.name = ended.name, ready.name
        self._watch(ended)
        return ready

    async def close(self) -> None:
        """End it at once: it has nothing to finish, and may be in the middle of its imports."""
        self._child.kill()
        await self._child.close()

    def _watch(self, child: Child) -> None:
        self._child = child
        child.started, child.lost, child.died = self._started, lambda: None, lambda _: True
        child.read = self._read

    def _started(self, _: socket.socket) -> None:
        self._inbox = Inbox()

    def _read(self, channel: socket.socket) -> bool:
        for kind, _ in self._inbox.read(channel):
            if kind == handoff.WAITING:
                self._child.proven()
                self._child.patience = patience_after(self._child.arrived())
        return True
