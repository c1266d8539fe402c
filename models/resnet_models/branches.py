"""How residual branches begin, and how often they are there while a network trains."""

from torch import nn

from resnet_models.errors import ResnetModelsError
from resnet_models.network import ResNet
from resnet_models.recipes import Recipe


def prepare_branches(network: ResNet, recipe: Recipe) -> None:
    """Do to the blocks what the recipe says; raise ResnetModelsError for a plain network, whose blocks are nothing without F."""
    asked = [name for name, value in (("zero-gamma", recipe.zero_gamma), ("stochastic-depth", recipe.stochastic_depth)) if value]
    if asked and network.variant.family == "plain":
        raise ResnetModelsError(f"{asked[0]}: {network.variant.name} has no shortcuts; expected a residual network")
    if recipe.zero_gamma:
        begin_as_shortcuts(network)
    if recipe.stochastic_depth:
        drop_at_random(network, recipe.stochastic_depth)


def begin_as_shortcuts(network: ResNet) -> None:
    """Start every block as its shortcut alone (Goyal et al., arXiv 1706.02677, section 5.1)."""
    for block in network.blocks():
        nn.init.zeros_(block.last_scale)


def drop_at_random(network: ResNet, last: float) -> None:
    """Stochastic depth with linear decay (Huang et al., arXiv 1603.09382, eq. 4): block l of L is dropped with probability last * l / L."""
    blocks = network.blocks()
    for number, block in enumerate(blocks, start=1):
        block.survival = 1 - last * number / len(blocks)
