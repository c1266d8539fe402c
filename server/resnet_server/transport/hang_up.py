"""Ends connections of this process as if their callers had gone: gRPC's core has no way to, short of its whole shutdown."""

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

Place = int | str
"""Where a server listens: a TCP port, or the path of a Unix socket."""

MOST_PASSES = 10


def place_of(address: str, port: int) -> Place:
    """Of an address as gRPC writes it and the port that it gave."""
    return address.removeprefix("unix:") if address.startswith("unix:") else port


def hang_up(places: Collection[Place]) -> None:
    """Neither read nor send anything more on connections to there; what the system has in hand it still sends.

    Again until no new one is found, since callers connect anew at once, but MOST_PASSES times in all.
    """
    known: set[int] = set()
    for _ in range(MOST_PASSES):
        before = len(known)
        for one in _connections(places):
            number = os.fstat(one.fileno()).st_ino
            if number not in known:
                known.add(number)
                with contextlib.suppress(OSError):  # it has ended by itself
                    one.shutdown(socket.SHUT_RDWR)
        if len(known) == before:
            break


def _connections(places: Collection[Place]) -> Iterator[socket.socket]:
    """Copies of this process's sockets that are connected to one of `places`, each closed when the next is asked for."""
    for entry in tuple(Path("/dev/fd").iterdir()):
        try:
            copy = os.dup(int(entry.name))
        except OSError:  # the listing's own, or just closed
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as one:
            if not one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and _place(one) in places:
                yield one


def _place(one: socket.socket) -> Place | None:
    try:
        name = one.getsockname()
    except OSError:
        return None
    return name[1] if isinstance(name, tuple) and len(name) > 1 else name if isinstance(name, str) else None
