"""Processes of a running server, for tests that kill them."""

import os
import selectors
import signal
from contextlib import suppress
from pathlib import Path

from serving import RunningServer

END_SECONDS = 10
LISTENS = "0A"  # in /proc/net/tcp and tcp6
SHARED = "/dev/shm"  # noqa: S108  # where named memory is


def children(parent: int, module: str) -> list[int]:
    """Process ids of a process's children that run `module`."""
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in pids if module.encode() in _command_line(pid)]


def _command_line(pid: str) -> bytes:
    with suppress(OSError):  # ended meanwhile
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def end_in_its_sleep(server: RunningServer) -> list[int]:
    """Stop a server and all that it has started, and kill it alone; those that it had started, none of which can do anything now."""
    server.process.send_signal(signal.SIGSTOP)  # first: it would end and replace those that are stopped
    found = descendants(server.process.pid)
    for pid in found:
        os.kill(pid, signal.SIGSTOP)
    server.process.kill()
    return found


def engines_of(server: RunningServer) -> list[int]:
    return children(server.process.pid, "resnet_server.engines.process.worker")


def front_ends_of(server: RunningServer) -> list[int]:
    """Those that callers meet."""
    return [pid for pid in _front_ends(server) if listens(pid, int(server.url.rpartition(":")[2]))]


def spares_of(server: RunningServer) -> list[int]:
    """Those that wait for their turn, or have not opened their ports yet."""
    return [pid for pid in _front_ends(server) if not listens(pid, int(server.url.rpartition(":")[2]))]


def _front_ends(server: RunningServer) -> list[int]:
    return children(server.process.pid, "resnet_server.frontends.process")


def listens(pid: int, port: int) -> bool:
    """Whether a process takes connections to a port."""
    with suppress(OSError):  # ended meanwhile
        tables = [Path(f"/proc/{pid}/net/{name}").read_text(encoding="ascii") for name in ("tcp", "tcp6")]
        lines = [line.split() for table in tables for line in table.splitlines()]
        sockets = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{port:04X}") and line[3] == LISTENS}
        return any(str(entry.readlink()) in sockets for entry in Path(f"/proc/{pid}/fd").iterdir())
    return False


def wait_for_end(pid: int) -> None:
    """Return once the process has ended; fail after END_SECONDS."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(handle, selectors.EVENT_READ)
            assert selector.select(END_SECONDS), f"process {pid} outlived its server"
    finally:
        os.close(handle)


def descendants(pid: int) -> list[int]:
    """Process ids of all that a process has started, and that those have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return [each for child in children for each in (child, *descendants(child))]


def proportional_bytes(pid: int) -> int:
    """Memory of a process and of all that it has started; what they share is counted once."""
    total = 0
    for each in (pid, *descendants(pid)):
        with suppress(OSError):  # ended meanwhile
            lines = Path(f"/proc/{each}/smaps_rollup").read_text(encoding="ascii").splitlines()
            total += next(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
    return total


def processor_seconds(pid: int) -> float:
    """Computed by a process so far; 0 for one that has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def shared_memory_in_use() -> set[Path]:
    """Named memory of this machine that some process has mapped or open."""
    used: set[Path] = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # ended, or somebody else's
            lines = (process / "maps").read_text().splitlines()
            used |= {Path(line.split(maxsplit=5)[5]) for line in lines if SHARED in line}
            used |= {path.readlink() for path in (process / "fd").iterdir()}
    return used


def left_behind(before: set[Path]) -> set[Path]:
    """Named memory that is new since `before` and that nobody uses; other tests' processes have theirs meanwhile."""
    return {path for path in set(Path(SHARED).iterdir()) - before if path not in shared_memory_in_use() and path.exists()}
