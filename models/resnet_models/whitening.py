"""The first convolution as the whitening of its patches (Coates and Ng 2011, section 3; Jordan, arXiv 2404.00498, section 3.1)."""

import torch
from torch import Tensor, nn

EPSILON = 5e-4
"""Added to the eigenvalues, so that directions of mere noise are not blown up (as in arXiv 2404.00498)."""


def whiten(convolution: nn.Conv2d, images: Tensor) -> None:
    """Start `convolution` with the strongest eigenvectors of the patches of normalised FP32 [n, 3, h, w], each scaled to unit variance.

    The weights keep the mean norm that they were initialised with, and train as others do.
    """
    size = convolution.kernel_size[0]
    patches = images.unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, convolution.in_channels * size * size)
    values, vectors = torch.linalg.eigh(torch.cov(patches.T))
    count = min(convolution.out_channels, len(values))
    strongest = (vectors[:, -count:] / torch.sqrt(values[-count:] + EPSILON)).T.flip(0).view(count, *convolution.weight.shape[1:])
    with torch.no_grad():
        scale = convolution.weight[:count].norm() / strongest.norm()
        convolution.weight[:count] = strongest * scale
