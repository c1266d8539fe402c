"""`resnet-bench peers`."""

import sys
from pathlib import Path

import click

from resnet_bench.errors import BenchError
from resnet_bench.limit.options import KnownNames, available_cores, finish, one_line_errors, with_progress
from resnet_bench.limit.random_weights import ensure_random
from resnet_bench.options import Names, Numbers
from resnet_bench.peers.comparison import Budget, Comparison
from resnet_bench.peers.environment import default_folder
from resnet_bench.peers.kinds import OURS, PEERS
from resnet_bench.peers.results import PeersReport
from resnet_bench.peers.standings import Places
from resnet_bench.peers.table import peers_markdown, peers_table
from resnet_bench.peers.targets import PEERS as TARGET_PEERS
from resnet_bench.peers.targets import trained, untrained
from resnet_bench.peers.work import Aim, Work
from resnet_bench.schema import this_machine

KNOWN = (OURS, *PEERS)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--repository", type=click.Path(path_type=Path), required=True, help="Published models.")
@click.option("--preset", type=click.Choice(["targets"]), help="What the server is to reach against Triton, instead of the loads below.")
@click.option("--random-weights", type=FOLDER, help="With --preset: folder for untrained ImageNet networks, made if absent; adds resnet50.")
@click.option("--models", type=Names(), default="resnet20,resnet56", help="Comma-separated names.")
@click.option("--peers", type=KnownNames(KNOWN), default=",".join(KNOWN), help="Which servers.")
@click.option("--in-flight", type=Numbers(), default="1,16,64", help="Calls open at any time.")
@click.option("--rows", type=Numbers(), default="1,8,32", help="Images a call.")
@click.option("--precision", type=click.Choice(["fp32", "fp16", "int8"]), default="fp32", help="The file that the peers serve.")
@click.option("--ours-precision", type=click.Choice(["auto", "fp32", "fp16", "int8"]), help="Of ours  [default: as --precision]")
@click.option("--duration", type=click.FloatRange(0.1), default=3.0, help="Seconds of each measurement.")
@click.option("--repeats", type=click.IntRange(1), default=3, help="All servers in turn.")
@click.option("--environments", type=FOLDER, default=default_folder(), show_default="~/.cache", help="Where the peers are installed.")
@click.option("--install/--no-install", default=True, help="Install missing peers with pip.")
@click.option("--out", type=FOLDER, help="Folder for peers.json and peers.md.")
def peers(
    repository: Path,
    preset: str | None,
    random_weights: Path | None,
    models: tuple[str, ...],
    peers: tuple[str, ...],
    in_flight: tuple[int, ...],
    rows: tuple[int, ...],
    precision: str,
    ours_precision: str | None,
    duration: float,
    repeats: int,
    environments: Path,
    install: bool,
    out: Path | None,
) -> None:
    """Compare with other servers on the same file and cores, all driven by h2load."""
    aims = tuple(Aim(open_calls, images) for images in rows for open_calls in in_flight)
    places = Places(environments.expanduser().absolute(), install, available_cores())
    with one_line_errors():
        if random_weights is not None and preset is None:
            raise BenchError("--random-weights: only --preset targets uses it; expected both")
        if preset is None:
            works = tuple(Work(repository, name, ours_precision or precision, precision, aims) for name in models)
            report = measure(works, peers, places, Budget(repeats, duration))
        else:
            works = (*trained(repository), *([] if random_weights is None else [_random(random_weights)]))
            report = measure(works, TARGET_PEERS, places, Budget(repeats, duration))
        finish(report, peers_table(report), peers_markdown(report), report.problems, report.complete, out, "peers")


def measure(works: tuple[Work, ...], names: tuple[str, ...], places: Places, budget: Budget) -> PeersReport:
    """Run the comparison; an interrupted one gives what was measured. Raises BenchError where there is nothing to compare with."""
    comparison = Comparison(works, names, places, budget)
    complete = with_progress(comparison.measure, comparison.steps)
    rows = comparison.rows()
    if complete and not any(row.served and row.peer != OURS for row in rows):
        reasons = [*comparison.problems, *(row.why for row in rows if row.why)]
        raise BenchError(f"peers: none could be measured: {'; '.join(dict.fromkeys(reasons))}")
    command = " ".join(["resnet-bench", *sys.argv[1:]])
    machine, problems = this_machine(places.cores), tuple(comparison.problems)
    return PeersReport(command, machine, budget.repeats, budget.seconds, comparison.setups, rows, problems, complete)


def _random(folder: Path) -> Work:
    ensure_random(folder, "resnet50", ("fp32", "int8"))
    return untrained(folder)
