"""Ends listening and connections of this process as if their callers had gone: gRPC's core has no way to, short of its whole shutdown."""

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
    """Listen there no more, and neither read nor send anything more on connections to there; what the system has in hand it still sends.

    Whose connection ends connects anew at once: it must find nobody, for gRPC would end its call CANCELLED. Connections are looked for
    again until no new one is found, since some were made just before, but MOST_PASSES times in all.
    """
    for number, _ in _sockets(places, listening=True):
        _listen_no_more(number)
    known: set[int] = set()
    for _ in range(MOST_PASSES):
        before = len(known)
        for _, one in _sockets(places, listening=False):
            inode = os.fstat(one.fileno()).st_ino
            if inode not in known:
                known.add(inode)
                with contextlib.suppress(OSError):  # it has ended by itself
                    one.shutdown(socket.SHUT_RDWR)
        if len(known) == before:
            break


def _listen_no_more(number: int) -> None:
    """Another socket takes the number, and the system closes the one that had it. gRPC, which knows nothing of it, closes that at its end.

    Were it shut down instead, gRPC would log an error at every stop.
    """
    with socket.socket() as other, contextlib.suppress(OSError):
        os.dup2(other.fileno(), number, inheritable=False)


def _sockets(places: Collection[Place], listening: bool) -> Iterator[tuple[int, socket.socket]]:
    """This process's sockets at one of `places`, those that listen or the others: number, and a copy, closed when the next is asked for."""
    for entry in tuple(Path("/dev/fd").iterdir()):
        try:
            copy = os.dup(int(entry.name))
        except OSError:  # the listing's own, or just closed
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        with socket.socket(fileno=copy) as one:
            if bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)) is listening and _place(one) in places:
                yield int(entry.name), one


def _place(one: socket.socket) -> Place | None:
    try:
        name = one.getsockname()
    except OSError:
        return None
    return name[1] if isinstance(name, tuple) and len(name) > 1 else name if isinstance(name, str) else None
