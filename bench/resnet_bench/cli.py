"""Command line `resnet-bench`."""

import click

from resnet_bench.compare.command import compare
from resnet_bench.depths.command import depths
from resnet_bench.fleet_command import plan_fleet_command
from resnet_bench.handlers.command import handlers
from resnet_bench.limit.command import limit
from resnet_bench.limit.endurance_command import overload, soak
from resnet_bench.load.command import load
from resnet_bench.peers.command import peers


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Compare published networks by latency, throughput, accuracy and cost."""


main.add_command(depths)
main.add_command(load)
main.add_command(compare)
main.add_command(limit)
main.add_command(soak)
main.add_command(overload)
main.add_command(peers)
main.add_command(handlers)
main.add_command(plan_fleet_command)
