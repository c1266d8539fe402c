"""The manifest's facts about a source: what the network is, what it takes and what it gives."""

from resnet_models.checkpoint import CheckpointInfo, Exportable
from resnet_models.network import ResNet, count_multiply_adds, count_parameters
from resnet_proto.manifest_pb2 import Input, Network, Output
from torch import nn

from resnet_export.graph import INPUT, OUTPUT
from resnet_export.sources.onnx import OnnxNetwork

ORDERS = {1: "L", 3: "RGB"}


def fill_network(facts: Network, checkpoint: Exportable) -> None:
    """Name, size and cost; of a module that is not of this family, the depth is that of its weighted layers."""
    info, network = checkpoint.info, checkpoint.network
    facts.variant, facts.trained = info.variant, info.trained
    if isinstance(network, OnnxNetwork):
        facts.family, facts.parameters = "other", network.parameter_count
        facts.depth, facts.multiply_adds = network.cost()
        return
    facts.parameters = count_parameters(network)
    facts.multiply_adds = count_multiply_adds(network, info.input_size, info.channels)
    if isinstance(network, ResNet):
        variant = network.variant
        facts.family, facts.depth, facts.block = variant.family, variant.depth, variant.block
    else:
        facts.family, facts.depth = "other", sum(isinstance(module, nn.Conv2d | nn.Linear) for module in network.modules())


def fill_input(spec: Input, info: CheckpointInfo) -> None:
    """What the served graph takes, and how an encoded image becomes that."""
    size = info.input_size
    spec.name, spec.height, spec.width, spec.channels = INPUT, size, size, info.channels
    spec.colour_order = ORDERS.get(info.channels, "")
    spec.trained_colour_order = "BGR" if info.colour_order == "BGR" else ""
    spec.mean.extend(info.normalisation.mean)
    spec.std.extend(info.normalisation.std)
    spec.interpolation, spec.antialias, spec.crop_rounding = info.interpolation, info.antialias, info.crop_rounding
    if info.squash:
        spec.resize_mode, spec.resize_height, spec.resize_width = "exact", info.resize or size, info.resize or size
    else:
        spec.resize_shorter_side = info.resize or size


def fill_output(output: Output, info: CheckpointInfo) -> None:
    """Classes, and what the logits mean."""
    output.name, output.classes = OUTPUT, info.classes
    output.activation = "sigmoid" if info.multi_label else "softmax"
