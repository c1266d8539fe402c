"""Layer responses (He et al., arXiv 1512.03385, section 4.2 and Fig. 7).

Standard deviations after batch normalisation, before the nonlinearity, of every 3x3 layer; in a residual network those of the
residual functions.
"""

from dataclasses import dataclass
from statistics import mean

import torch
from torch import Tensor, nn

from resnet_models.analysis.walk import walk
from resnet_models.blocks import Block
from resnet_models.network import ResNet


@dataclass(frozen=True)
class Responses:
    """Standard deviation of each layer's response, first layer to last, and the mean size of F(x) beside the shortcut's, per block."""

    layers: list[float]
    ratios: list[float]

    @property
    def mean(self) -> float:
        """Mean over layers."""
        return mean(self.layers)


def layer_responses(network: ResNet, images: Tensor) -> Responses:
    """Measure on normalised FP32 [n, 3, h, w], in eval mode."""
    deviations: list[float] = []

    def note(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        deviations.append(float(output.std()))

    norms = [m for block in network.blocks() for m in (block.get_submodule("bn1"), block.get_submodule("bn2"))]
    hooks = [norm.register_forward_hook(note) for norm in [network.bn1, *norms]]
    try:
        with torch.inference_mode():
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
    return Responses(deviations, residual_ratios(network, images))


def residual_ratios(network: ResNet, images: Tensor) -> list[float]:
    """Per block the mean over images of |F(x)| / |shortcut(x)|."""
    ratios: list[float] = []

    def step(_: int, block: Block, x: Tensor) -> Tensor:
        branch, skip = block.residual(x), block.shortcut(x)
        ratios.append(float((branch.flatten(1).norm(dim=1) / skip.flatten(1).norm(dim=1).clamp_min(1e-12)).mean()))
        return block.finish(block.join(branch, x))

    with torch.inference_mode():
        walk(network.eval(), images, step)
    return ratios
