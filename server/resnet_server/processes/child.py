"""A process of ours at the other end of a socket: started, started again when it dies, ended when the socket closes."""

import asyncio
import logging
import socket
import subprocess
import time
from collections.abc import Callable, Sequence

from resnet_server.processes import bond
from resnet_server.processes.standing import is_stopped

log = logging.getLogger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 5.0  # a start that fails costs a second of a core; being away for longer costs callers more
LONGEST_PROVEN_BACK_OFF = 0.5  # from the moment it did its work: whoever ends such a process has to come again each time
STABLE_SECONDS = 10.0
STOP_SECONDS = 1.5  # for a process whose socket has closed: it has nothing to finish
LOOK_SECONDS = 0.02  # between two looks whether a process has ended
STOPPED_LOOK_SECONDS, STOPPED_LOOKS = 0.05, 2  # whether it is stopped: at two of our own looks, lest we were stopped with it


class Child:
    """Runs `python -m module arguments... descriptor`; dies with us, since its socket then closes.

    `started` gets our end of the socket after each start; it may raise OSError, which ends the process again. `read` is called on
    the event loop when the socket is readable and returns False at its end. `lost` is told at once that the socket is gone, `died`
    gets the exit status and says whether to start again: `back_off` seconds later, twice as late each time. Whatever keeps it from
    starting then, it is tried again. Nothing here waits for a process on the event loop, which may hang in the kernel for long.
    With a `patience`, a process that has not `arrived` so many seconds after it was `expected` hangs, and is ended. So is one that a
    signal has stopped. Say that it is `proven` once it does what it is for: it then starts again sooner than one that never got
    there, and at once if it has done so for as long as the pause would be.
    """

    def __init__(self, name: str, arguments: Sequence[str], kind: socket.SocketKind) -> None:
        self.name = name
        self.back_off = FIRST_BACK_OFF
        self.patience: float | None = None
        self.socket: socket.socket | None = None
        self.started: Callable[[socket.socket], None] = lambda _: None
        self.read: Callable[[socket.socket], bool] = lambda _: False
        self.lost: Callable[[], None] = lambda: None
        self.died: Callable[[int], bool] = lambda _: False
        self._arguments = arguments
        self._kind = kind
        self._loop = asyncio.get_running_loop()
        self._started_at = 0.0
        self._proven_at: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._arrival: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._stopped_looks = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = False

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._process.pid if self._process is not None and self._process.returncode is None else 0

    def start(self) -> None:
        """Start the process now, on a thread that stays; raise OSError if the system cannot."""
        self._proven_at = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, self._kind)
        try:
            with theirs:
                command = bond.command(*self._arguments, str(theirs.fileno()))
                self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
            ours.setblocking(False)
        except OSError:
            ours.close()
            raise
        self.socket = ours
        self._stopped_looks = 0
        self._watch = self._loop.call_later(STOPPED_LOOK_SECONDS, self._look)
        self._loop.add_reader(ours.fileno(), self._readable)
        self.expected()
        self.started(ours)

    def start_at_last(self) -> None:
        """Start the process now, or later where the system cannot."""
        try:
            self.start()
        except OSError as error:  # no process, memory or descriptor to be had: for now
            if self.socket is None:
                self._start_later(f"its process cannot be started ({error.strerror}); trying again")
            else:
                self.not_served(error)

    def not_served(self, error: OSError) -> None:
        """End a process that lives, but that we have no memory or descriptors for."""
        log.error("%s: its process cannot be served (%s)", self.name, error.strerror)
        self._ended()

    def expected(self) -> None:
        """From now on its patience counts."""
        self.arrived()
        self._started_at = time.monotonic()
        if self.patience is not None:
            self._arrival = self._loop.call_later(self.patience, self._hangs, self.patience)

    def proven(self) -> None:
        """It does what it is for."""
        if self._proven_at is None:
            self._proven_at = time.monotonic()

    def arrived(self) -> float:
        """The process is where it was expected to get; returns the seconds that it took."""
        if self._arrival is not None:
            self._arrival.cancel()
            self._arrival = None
        return time.monotonic() - self._started_at

    def kill(self) -> None:
        """End the process now; it may start again, as after any other death."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self, seconds: float | None = None) -> None:
        """End the process for good by closing the socket; with `seconds`, let it end by itself first, which it has been told."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        process = self._process
        if process is not None and seconds is not None:
            await _ended_within(process, seconds)
        self._hang_up()
        if process is not None and not await _ended_within(process, STOP_SECONDS):
            process.kill()
            await _ended_within(process, STOP_SECONDS)

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

    def _hangs(self, seconds: float) -> None:
        log.error("%s: process %d is not ready %g s after its start; ending it", self.name, self.pid, seconds)
        self.kill()

    def _look(self) -> None:
        self._stopped_looks = self._stopped_looks + 1 if is_stopped(self.pid) else 0
        if self._stopped_looks >= STOPPED_LOOKS:
            log.error("%s: process %d has been stopped by a signal; ending it", self.name, self.pid)
            self.kill()
        else:
            self._watch = self._loop.call_later(STOPPED_LOOK_SECONDS, self._look)

    def _ended(self) -> None:
        self._hang_up()
        self.kill()  # of use only where it closed the socket and lives on
        self.lost()
        self._bury()

    def _bury(self) -> None:
        """Look again and again until the process has ended, and go on from there."""
        if self._closing:
            return
        status = None if self._process is None else self._process.poll()
        if status is None:
            self._timer = self._loop.call_later(LOOK_SECONDS, self._bury)
        elif self.died(status):
            if time.monotonic() - self._started_at > STABLE_SECONDS:
                self.back_off = FIRST_BACK_OFF
            self._start_later(f"its process ended with status {status}; starting again")

    def _start_later(self, why: str) -> None:
        longest = LONGEST_BACK_OFF if self._proven_at is None else LONGEST_PROVEN_BACK_OFF
        pause = min(self.back_off, longest)
        self.back_off = min(2 * pause, longest)
        if self._proven_at is not None:
            pause = max(0.0, self._proven_at + pause - time.monotonic())
        log.error("%s: %s in %.1f s", self.name, why, pause)
        self._timer = self._loop.call_later(pause, self.start_at_last)

    def _hang_up(self) -> None:
        self.arrived()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if self.socket is not None:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()
            self.socket = None


async def _ended_within(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Look until the process has ended, without a thread, which the system may not have to spare."""
    ends = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > ends:
            return False
        await asyncio.sleep(LOOK_SECONDS)  # the system tells nobody but its parent, and that by polling
    return True
