"""Command line `resnet-train`."""

import click

from resnet_models.commands.analysis import analyze, card, claims, hurt, initialisation, landscape
from resnet_models.commands.evaluation import evaluate
from resnet_models.commands.experiments import degradation, seeds
from resnet_models.commands.fit import fit


@click.group(context_settings={"show_default": True})
@click.version_option(package_name="resnet-serving")
def main() -> None:
    """Train the residual networks of He et al., compare them, and measure why they train."""


for command in (fit, seeds, degradation, evaluate, analyze, initialisation, hurt, landscape, claims, card):
    main.add_command(command)
