"""`python tests/chaos/phases.py --repository DIR`: how long each phase takes after the front end that has all connections is stopped.

Two front ends, 64 callers. In each round one is killed, so that all connections are at the other, and that one is stopped by SIGSTOP (or
killed) once another listens again. Printed are seconds from then on, of each round and in the median.
"""

import asyncio
import os
import signal
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

import chaos
import click
from chaos import CALLERS, Callers, known
from processes import front_ends_of, spares_of
from serving import RunningServer, running_server

OPTIONS = ("--models", "resnet20", "--precision", "fp32", "--frontends", "2", "--engines", "2", "--threads", "1")
PHASES = {
    "noticed": "has been stopped by a signal",
    "ended, another takes over": "takes over",
    "that one listens": "Started server process",
}
STAMP, LONG = "%Y-%m-%d %H:%M:%S,%f", len("2026-11-29 12:00:00,000")
ON_THEIR_WAY = 0.03  # seconds in which answers may come that the process had given before
CALM, LOGGED = 2.0, 0.5  # seconds between the return of the first and the mishap, and after the last answer
ANSWERS = ("an answer again", f"each of {CALLERS} answered again")


def logged(lines: list[str], since: float) -> list[float]:
    """Seconds from `since` until each of the PHASES; 0 for one that did not occur."""
    found = []
    for text in PHASES.values():
        stamps = (datetime.strptime(line[:LONG], STAMP).timestamp() for line in lines if text in line)
        found.append(next((stamp - since for stamp in stamps), 0.0))
    return found


async def one_round(server: RunningServer, callers: Callers, number: signal.Signals) -> list[float]:
    """Seconds of each phase and of ANSWERS."""
    one, other = front_ends_of(server)
    os.kill(one, signal.SIGKILL)
    while len(front_ends_of(server)) < 2 or not spares_of(server):  # noqa: ASYNC110  # the system tells nobody but its parent
        await asyncio.sleep(0.05)
    await asyncio.sleep(CALM)
    size, count = server.log.stat().st_size, len(callers.recoveries_of_all)
    callers.note_mishap()
    began, since = time.monotonic(), time.time()
    os.kill(other, number)
    await asyncio.sleep(ON_THEIR_WAY)
    callers.answered.clear()
    await callers.answered.wait()
    answered = time.monotonic() - began
    while len(callers.recoveries_of_all) == count:  # noqa: ASYNC110  # a reading, not a wait that matters
        await asyncio.sleep(0.005)
    await asyncio.sleep(LOGGED)
    lines = server.log.read_bytes()[size:].decode().splitlines()
    return [*logged(lines, since), answered, callers.recoveries_of_all[-1]]


async def measure(server: RunningServer, rounds: int, number: signal.Signals) -> list[list[float]]:
    callers = Callers(server.url, await known(server.url), 1)
    running = asyncio.ensure_future(callers.run())
    await callers.answered.wait()
    found = [await one_round(server, callers, number) for _ in range(rounds)]
    callers.stop()
    await running
    assert callers.answers.faults == []
    return found


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="With resnet20.")
@click.option("--rounds", default=10, show_default=True)
@click.option("--kill", is_flag=True, help="SIGKILL in place of SIGSTOP.")
@click.option("--as-grpc-comes", is_flag=True, help="Callers connect again when gRPC does by itself, not after 50 to 200 ms.")
def main(repository: Path, rounds: int, kill: bool, as_grpc_comes: bool) -> None:
    """See the module."""
    if as_grpc_comes:
        chaos.RECONNECT[:] = [("grpc.use_local_subchannel_pool", 1)]
    with tempfile.TemporaryDirectory() as folder, running_server(repository, Path(folder) / "log", *OPTIONS) as server:
        found = asyncio.run(measure(server, rounds, signal.SIGKILL if kill else signal.SIGSTOP))
        assert server.terminate() == 0
    for name, seconds in zip((*PHASES, *ANSWERS), zip(*found, strict=True), strict=True):
        each = " ".join(f"{one:.2f}" for one in seconds)
        click.echo(f"{name}: {statistics.median(seconds):.3f} s (median), {max(seconds):.3f} s (most): {each}")


if __name__ == "__main__":
    main()
