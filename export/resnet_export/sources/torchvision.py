"""torchvision's own weights by name: `torchvision:resnet50`, `torchvision:resnet50:V1`."""

from resnet_models.checkpoint import Exportable
from resnet_models.published import from_torchvision, weights_file

from resnet_export.sources.interface import Given, Source
from resnet_export.sources.settling import LogitsOf

PREFIX = "torchvision:"


def read_named(text: str, given: Given) -> Source:
    """Weights, preprocessing and labels as torchvision states them; its own network is the reference."""
    given.refuse("variant", "weights", "model", because=f"{text} says the architecture")
    name, _, weights = text.removeprefix(PREFIX).partition(":")
    checkpoint = from_torchvision(name, weights or "DEFAULT")
    reference = LogitsOf(checkpoint.reference) if checkpoint.reference is not None else None
    return Source(Exportable(checkpoint.network, given.over(checkpoint.info), reference), weights_file(name, weights or "DEFAULT"))
