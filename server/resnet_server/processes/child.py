"""A process of ours at the other end of a socket: started, started again when it dies, ended when the socket closes."""

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

log = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 30.0
STABLE_SECONDS = 60.0
STOP_SECONDS = 1.5  # for a process whose socket has closed: it has nothing to finish


class Child:
    """Runs `python -m module arguments... descriptor`; dies with us, since its socket then closes.

    `started` gets our end of the socket after each start. `read` is called on the event loop when the socket is readable and
    returns False at its end. `died` gets the exit status and says whether to start again: `back_off` seconds later, twice as late
    each time.
    """

    def __init__(self, name: str, arguments: Sequence[str], kind: socket.SocketKind) -> None:
        self.name = name
        self.back_off = FIRST_BACK_OFF
        self.socket: socket.socket | None = None
        self.started: Callable[[socket.socket], None] = lambda _: None
        self.read: Callable[[socket.socket], bool] = lambda _: False
        self.died: Callable[[int | None], bool] = lambda _: False
        self._arguments = arguments
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._started_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def start(self) -> None:
        """Start the process now."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, self._kind)
        command = [sys.executable, "-m", *self._arguments, str(theirs.fileno())]
        with theirs:
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        ours.setblocking(False)
        self.socket = ours
        self._started_at = time.monotonic()
        self._loop.add_reader(ours.fileno(), self._readable)
        self.started(ours)

    async def close(self, seconds: float | None = None) -> None:
        """End the process for good by closing the socket; with `seconds`, let it end by itself first, which it has been told."""
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        if process is not None and seconds is not None:
            await asyncio.to_thread(_wait, process, seconds)
        self._hang_up()
        if process is not None:
            await asyncio.to_thread(_reap, process)

    def _readable(self) -> None:
        if self.socket is None:
            return
        try:
            alive = self.read(self.socket)
        except BlockingIOError:
            return
        except (OSError, EOFError):
            alive = False
        if not alive:
            self._ended()

    def _ended(self) -> None:
        process = self._process
        self._hang_up()
        if process is not None:
            process.kill()  # of use only where it closed the socket and lives on
        status = None if process is None else process.wait()
        if not self.died(status):
            return
        if time.monotonic() - self._started_at > STABLE_SECONDS:
            self.back_off = FIRST_BACK_OFF
        log.error("%s: its process ended with status %s; starting again in %g s", self.name, status, self.back_off)
        self._timer = self._loop.call_later(self.back_off, self.start)
        self.back_off = min(2 * self.back_off, LONGEST_BACK_OFF)

    def _hang_up(self) -> None:
        if self.socket is not None:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()
            self.socket = None


def _wait(process: "subprocess.Popen[bytes]", seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _reap(process: "subprocess.Popen[bytes]") -> None:
    _wait(process, STOP_SECONDS)
    if process.returncode is None:
        process.kill()
        process.wait()
