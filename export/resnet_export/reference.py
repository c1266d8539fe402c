"""The reference: what the owner of the weights trusts, in PyTorch, in fp32 and with the ordinary normalisation."""

import numpy as np
import torch
from numpy.typing import NDArray
from resnet_models.checkpoint import Exportable
from resnet_models.evaluate import predict

Logits = NDArray[np.float32]


def reference_logits(checkpoint: Exportable, images: NDArray[np.uint8]) -> Logits:
    """UINT8 [n, h, w, channels] to FP32 logits [n, classes], in batches of 50; never with TF32, which is off by 0.3 in a logit.

    Computed by the library that the weights come from, or by the user's own module, where the source brings one.
    """
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if checkpoint.info.colour_order == "BGR":
        x = x.flip(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network = checkpoint.network if checkpoint.reference is None else checkpoint.reference
    logits: Logits = predict(network, x, checkpoint.info.normalisation, batch=50).numpy()
    return logits
