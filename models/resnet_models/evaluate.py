"""Test error of a network on images."""

import torch
from torch import Tensor, nn

from resnet_models.augment import normalise
from resnet_models.data import ImageSource
from resnet_models.network import ResNet
from resnet_models.normalisation import Normalisation


def mirrored_mean(network: nn.Module, x: Tensor, logits: Tensor, normalisation: Normalisation) -> Tensor:
    """The mean FP32 [n, classes] of each image's logits and those of its mirror image (test-time flip)."""
    return (logits + predict(network, x.flip(-1), normalisation)) / 2


def predict(network: nn.Module, x: Tensor, normalisation: Normalisation, batch: int = 250) -> Tensor:
    """Logits FP32 [n, classes] of UINT8 [n, channels, h, w], in eval mode and fp32."""
    device = next(network.parameters(), x).device
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        logits = torch.cat([network(normalise(chunk.to(device), normalisation)).cpu() for chunk in torch.split(x, batch)])
    network.train(was_training)
    return logits


def test_error(network: ResNet, images: ImageSource, normalisation: Normalisation) -> float:
    """Top-1 error in percent, un-augmented, in eval mode and fp32."""
    device = network.fc.weight.device
    was_training = network.training
    network.eval()
    with torch.inference_mode():
        batches = images.evaluation_batches(normalisation)
        wrong = sum(int((network(x.to(device)).argmax(1).cpu() != y).sum()) for x, y in batches)
    network.train(was_training)
    return 100 * wrong / len(images)
