"""The reference: the network in PyTorch, in fp32 and with the ordinary normalisation."""

import numpy as np
import torch
from numpy.typing import NDArray
from resnet_models.checkpoint import Checkpoint
from resnet_models.evaluate import predict

Logits = NDArray[np.float32]


def reference_logits(checkpoint: Checkpoint, images: NDArray[np.uint8]) -> Logits:
    """UINT8 [n, h, w, 3] to FP32 logits [n, classes], in batches of 50; never with TF32, which is off by 0.3 in a logit."""
    x = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    logits: Logits = predict(checkpoint.network, x, checkpoint.info.normalisation, batch=50).numpy()
    return logits
