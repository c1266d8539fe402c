"""Command line `resnet-bench`."""

import click

from resnet_bench.commands.compare import compare
from resnet_bench.commands.depths import depths
from resnet_bench.commands.load import load
from resnet_bench.commands.peers import peers
from resnet_bench.fleet_command import plan_fleet_command


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Measure how networks are served: latency, throughput, accuracy and cost."""


for command in (load, depths, compare, peers, plan_fleet_command):
    main.add_command(command)
