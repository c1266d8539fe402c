"""Does a server that started beside busy loops end, once they stop, at the plan that a calm start finds? `make chaos` prints it.

A measurement, not a test: it asks for a machine that nobody else uses.
"""

import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from serving import RunningServer, running_server

WITHIN = 60.0  # seconds after the loops stop
PLAN = re.compile(r"^resnet_plan_info\{([^}]*)\} 1", re.MULTILINE)


def spin() -> None:
    """Use a core until killed."""
    while True:
        pass


def plan_of(server: RunningServer) -> str:
    """Engines, threads and batch of the plan in use, as the metric has them."""
    text = subprocess.run(["curl", "-s", server.metrics_url], capture_output=True, text=True, check=True).stdout
    found = PLAN.search(text)
    assert found, "the server has no plan"
    return found[1]


def calm_plan(repository: Path, folder: Path) -> str:
    """What a start finds while nothing else runs; kept in a cache of its own."""
    os.environ["RESNET_SERVER_PLAN_CACHE"] = str(folder / "calm")
    with running_server(repository, folder / "calm.log") as server:
        return plan_of(server)


def disturbed_plans(repository: Path, folder: Path) -> tuple[str, list[tuple[float, str]]]:
    """The plan of a start beside a busy loop on each core, and the plans after the loops have stopped, each with its second."""
    os.environ["RESNET_SERVER_PLAN_CACHE"] = str(folder / "busy")
    loops = [multiprocessing.get_context("spawn").Process(target=spin, daemon=True) for _ in range(os.cpu_count() or 1)]
    for loop in loops:
        loop.start()
    with ExitStack() as stack:
        try:
            server = stack.enter_context(running_server(repository, folder / "busy.log"))
            first = plan_of(server)
        finally:
            for loop in loops:
                loop.kill()
                loop.join()
        stopped, found = time.monotonic(), [(0.0, first)]
        while (since := time.monotonic() - stopped) < WITHIN:
            plan = plan_of(server)
            if plan != found[-1][1]:
                found.append((since, plan))
            time.sleep(0.5)  # the server is the one that measures; asked more often, it would be disturbed by the question
    return first, found


@click.command()
@click.option("--repository", type=click.Path(path_type=Path, exists=True), required=True, help="With one model.")
@click.option("--repeats", default=3, show_default=True)
def main(repository: Path, repeats: int) -> None:
    """Print the plans; exit with status 1 where one did not end as the calm start."""
    console, right = Console(width=120), 0
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as name:
            calm, (_, found) = calm_plan(repository, Path(name)), disturbed_plans(repository, Path(name))
        console.print(f"calm:   {calm}")
        for since, plan in found:
            console.print(f"{since:5.1f} s after the loops stopped: {plan}")
        right += found[-1][1] == calm
    console.print(f"{right} of {repeats} ended at the plan of a calm start")
    sys.exit(right < repeats)


if __name__ == "__main__":
    main()
