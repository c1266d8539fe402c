"""What a network sees: feature maps at the end of each stage, and class activation maps."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from resnet_models.network import ResNet


@dataclass(frozen=True)
class Seen:
    """One image: per stage the channels that vary most, FP32 [channels, h, w]; the class found and its activation map [h, w] in 0..1."""

    stages: list[Tensor]
    predicted: int
    probability: float
    class_map: Tensor


def look(network: ResNet, image: Tensor, channels: int = 6) -> Seen:
    """Look at one normalised FP32 [1, 3, h, w].

    The class activation map (Zhou et al., arXiv 1512.04150, eq. 2) is the classifier's weights of the found class over
    the last feature maps, enlarged to the image.
    """
    with torch.inference_mode():
        x = network.eval().enter(image)
        stages = []
        for stage in network.stages():
            x = stage(x)
            strongest = x[0].flatten(1).std(dim=1).topk(min(channels, x.shape[1])).indices
            stages.append(x[0, strongest].clone())
        logits = network.fc(x.mean((2, 3)))[0]
        best = int(logits.argmax())
        weighted = torch.einsum("c,chw->hw", network.fc.weight[best], x[0])[None, None]
        enlarged = F.interpolate(weighted, size=image.shape[2:], mode="bilinear", align_corners=False)[0, 0]
    low, high = enlarged.min(), enlarged.max()
    return Seen(stages, best, float(logits.softmax(0)[best]), (enlarged - low) / (high - low).clamp_min(1e-12))
