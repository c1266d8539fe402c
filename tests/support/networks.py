"""Networks of other libraries with seeded weights whose logits tell images apart."""

import torch
from torch import nn


def seeded(network: nn.Module, seed: int = 0, size: int = 64, channels: int = 3) -> nn.Module:
    """The network in eval mode; statistics and scales are such that a mix-up of any two tensors shows.

    Batch statistics are measured on noise, since activations of a deep residual network double from block to block at 0 and 1.
    """
    torch.manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for parameter in network.parameters():
        if parameter.ndim >= 2:
            nn.init.kaiming_normal_(parameter, mode="fan_out", nonlinearity="relu")
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.1)
        norm.reset_running_stats()
        norm.momentum = None
    network.train()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    with torch.no_grad():
        network(torch.randn(4, channels, size, size))
    for norm in norms:
        norm.momentum = 0.1
    return network.eval()


def logits_of(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """FP32 [n, classes], also of a model of transformers."""
    with torch.inference_mode():
        output = network(images)
    return output if isinstance(output, torch.Tensor) else output.logits
